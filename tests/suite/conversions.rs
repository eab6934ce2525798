//! How shaders load and store elements of 16 bits: every pattern, and every rounding, on the device.

use crate::support::{buffer, gpu, read};
use wgpu_batchnorm::half::{bf16, f16};
use wgpu_batchnorm::internals::composed;
use wgpu_batchnorm::{Gpu, wgpu};

/// All patterns of 16 bits.
const PATTERNS: usize = 1 << 16;

type Widen = fn(u16) -> f32;
type Narrow = fn(f32) -> u16;

/// A way to store elements of 16 bits: the cases of the shader files, and the conversions that it must make.
struct Storage {
    name: &'static str,
    /// Elements that are loaded at once.
    width: usize,
    cases: Vec<(&'static str, &'static str)>,
    widened: Widen,
    narrowed: Narrow,
}

/// Returns the ways that the device supports.
fn storages() -> Vec<Storage> {
    let mut storages = Vec::new();
    for (width, vector) in [(1, "scalar"), (4, "four_elements"), (8, "four_elements")] {
        let mut add = |name, storage, packed: &[(&'static str, &'static str)], store, widened, narrowed| {
            let mut cases =
                vec![("data/per_channel", "one"), ("data/vector", vector), ("data/storage", storage)];
            cases.extend([("tensors/x", "read"), ("tensors/y", store)]);
            cases.extend(packed);
            storages.push(Storage { name, width, cases, widened, narrowed });
        };
        let (from_f16, to_f16): (Widen, Narrow) =
            (|bits| f16::from_bits(bits).to_f32(), |value| f16::from_f32(value).to_bits());
        let (from_bf16, to_bf16): (Widen, Narrow) =
            (|bits| bf16::from_bits(bits).to_f32(), |value| bf16::from_f32(value).to_bits());
        let (packed, native, store) = match width {
            1 => ("packed_scalar", "f16_scalar", "store_atomic"),
            4 => ("packed_vector", "f16_vector", "store"),
            _ => ("packed_two_vectors", "f16_two_vectors", "store"),
        };
        add("packed f16", packed, &[("data/packed", "f16")], store, from_f16, to_f16);
        add("packed bf16", packed, &[("data/packed", "bf16")], store, from_bf16, to_bf16);
        if gpu().profile().features.contains(wgpu::Features::SHADER_F16) {
            add("f16", native, &[("data/round_f16", "by_arithmetic")], "store", from_f16, to_f16);
            add("f16", native, &[("data/round_f16", "by_conversion")], "store", from_f16, to_f16);
        }
    }
    storages
}

/// Returns a shader that runs the statement on element `id.x` of x and y, and of `floats`.
fn shader(storage: &Storage, statement: &str) -> String {
    let text = composed(&["tensors/x", "tensors/y"], &storage.cases).unwrap();
    // The uniform is not bound, since loads and stores read a private copy. The zero that no compiler may know is a
    // number that it does not know: otherwise it would leave out the arithmetic that rounds.
    let text = text.replace("@group(0) @binding(0) var<uniform> uniform_params: Params;", "");
    let enable = if storage.name == "f16" { "enable f16;\n" } else { "" };
    format!(
        "{enable}{text}\n@group(0) @binding(3) var<storage, read_write> floats: array<Vector>;\n\
         @compute @workgroup_size(64)\n\
         fn main(@builtin(global_invocation_id) id: vec3<u32>) {{ params.opaque_zero = id.y; {statement}; }}"
    )
}

/// Runs a shader once per load of a tensor and of `floats`. It binds nothing else.
fn run(
    gpu: &Gpu,
    shader: String,
    loads: usize,
    (binding, tensor): (u32, &wgpu::Buffer),
    floats: &wgpu::Buffer,
) {
    let device = gpu.device();
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(shader.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let entries = [(binding, tensor), (3, floats)]
        .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
    let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    });
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(loads as u32 / 64, 1, 1);
    }
    gpu.queue().submit([encoder.finish()]);
}

/// Returns a buffer of elements of 16 bits.
fn halves(bits: &[u16]) -> wgpu::Buffer {
    buffer(gpu(), &bytemuck::pod_collect_to_vec::<u16, f32>(bits))
}

#[test]
fn every_pattern_is_loaded_as_it_is() {
    let patterns: Vec<u16> = (0..=u16::MAX).collect();
    for storage in storages() {
        let (x, floats) = (halves(&patterns), buffer(gpu(), &vec![0.0; PATTERNS]));
        let load = shader(
            &storage,
            match storage.width {
                8 => "floats[2u * id.x] = load_x(id.x, false); floats[2u * id.x + 1u] = load_x(id.x, true)",
                _ => "floats[id.x] = load_x(id.x, false)",
            },
        );
        run(gpu(), load, PATTERNS / storage.width, (1, &x), &floats);
        for (&bits, found) in patterns.iter().zip(read(gpu(), &floats)) {
            let exact = (storage.widened)(bits);
            let same = found.to_bits() == exact.to_bits() || (found.is_nan() && exact.is_nan());
            assert!(
                same,
                "{}, {} at once, {bits:#06x}: {found:e}, not {exact:e}",
                storage.name, storage.width
            );
        }
    }
}

/// Stores each number of the type, the midpoint to the next one (which must round to even), the numbers just before and
/// after the midpoint, and numbers of every exponent of f32.
#[test]
fn every_number_is_rounded_to_the_nearest() {
    for storage in storages() {
        let widened = storage.widened;
        let mut values = vec![vec![0f32; PATTERNS]; 6];
        for bits in 0..=u16::MAX {
            let (number, next) = (widened(bits), widened(bits.wrapping_add(1)));
            // After the largest number, the next one would be as far as the one before.
            let next = if next.is_finite() { next } else { 2.0 * number - widened(bits.wrapping_sub(1)) };
            let half_way = (f64::from(number) + f64::from(next)) / 2.0;
            let half_way = if number.is_finite() { half_way as f32 } else { number };
            let k = usize::from(bits);
            let [any, other] = [0x5555, 0x8000].map(|low| f32::from_bits(u32::from(bits) << 16 | low));
            let around = [number, half_way, half_way.next_down(), half_way.next_up(), any, other];
            for (values, value) in values.iter_mut().zip(around) {
                values[k] = value;
            }
        }
        for values in &values {
            // Earlier contents must make no difference.
            let (y, floats) = (halves(&vec![0x5a5a; PATTERNS]), buffer(gpu(), values));
            let store = shader(
                &storage,
                match storage.width {
                    8 => "store_y(id.x, floats[2u * id.x], floats[2u * id.x + 1u])",
                    _ => "store_y(id.x, floats[id.x], Vector())",
                },
            );
            run(gpu(), store, PATTERNS / storage.width, (2, &y), &floats);
            let found: Vec<u16> = bytemuck::pod_collect_to_vec(&read(gpu(), &y));
            for (&value, &found) in values.iter().zip(&found) {
                let exact = (storage.narrowed)(value);
                let both_nan = value.is_nan() && widened(found).is_nan();
                assert!(
                    found == exact || both_nan,
                    "{}, {} at once: {value:e} ({:#010x}) is stored as {found:#06x}, not {exact:#06x}",
                    storage.name,
                    storage.width,
                    value.to_bits()
                );
            }
        }
    }
}
