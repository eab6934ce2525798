//! Measures the adapter: the figures that tunings are chosen by.

use crate::{Clock, Result, filled, median, read_u32};
use serde_json::json;
use wgpu_batchnorm::{Gpu, half::f16, wgpu};

const MIB: u64 = 1 << 20;

pub(crate) fn run(gpu: &Gpu) -> Result<()> {
    let clock = Clock::new(gpu)?;
    // A software driver only shows that all of this runs.
    let large = if gpu.profile().is_cpu() { 4 * MIB } else { 512 * MIB };
    dispatches(gpu, &clock)?;
    streams(gpu, &clock, large)?;
    caches(gpu, &clock, large)?;
    rounding(gpu)
}

/// A shader on x and y, and its bind group.
struct Kernel {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
}

impl Kernel {
    fn new(gpu: &Gpu, wgsl: &str, checked: bool, buffers: &[&wgpu::Buffer]) -> Self {
        let device = gpu.device();
        let source = wgpu::ShaderSource::Wgsl(wgsl.into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: None, source };
        let module = if checked {
            device.create_shader_module(descriptor)
        } else {
            // SAFETY: the shaders below stay within their buffers, and their loops end.
            unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        let entries: Vec<_> = (0u32..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let layout = pipeline.get_bind_group_layout(0);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &entries,
        });
        Self { pipeline, group }
    }

    fn record(&self, pass: &mut wgpu::ComputePass<'_>, workgroups: u32) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        let rows = workgroups.div_ceil(65535);
        pass.dispatch_workgroups(workgroups.div_ceil(rows), rows, 1);
    }
}

/// Measures the microseconds from a dispatch to the next one, which must wait for it: with one workgroup, and with
/// enough to fill the GPU.
fn dispatches(gpu: &Gpu, clock: &Clock<'_>) -> Result<()> {
    let buffer = filled(gpu, 4 * MIB);
    let wgsl = "@group(0) @binding(0) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(256) fn f(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] += 1.0; }";
    let kernel = Kernel::new(gpu, wgsl, true, &[&buffer]);
    for workgroups in [1, 132, 1024, 4096] {
        let chain = |count: usize| -> Result<f64> {
            let times = clock.time(9, |_, pass| (0..count).for_each(|_| kernel.record(pass, workgroups)))?;
            Ok(median(&times) * 1e3)
        };
        let (one, many) = (chain(1)?, chain(65)?);
        println!(
            "{}",
            json!({"limit": "dispatch", "workgroups": workgroups, "alone_us": one, "each_further_us": (many - one) / 64.0})
        );
    }
    Ok(())
}

/// Returns a shader in which each invocation copies (or only reads) 16 loads. It makes `at_once` loads before it
/// uses the first.
fn stream(size: u32, at_once: u32, element: &str, writes: bool, stride: &str, order: &str) -> String {
    let load = |k: u32| format!("let v{k} = x[at + {k}u * {stride}];");
    let place = |k: u32| match writes {
        true => format!("y[at + {k}u * {stride}] = v{k};"),
        false => format!("sum += v{k};"),
    };
    let loads: String = (0..at_once).map(load).collect();
    let uses: String = (0..at_once).map(place).collect();
    let enable = if element.contains("f16") { "enable f16;\n" } else { "" };
    let end = if writes { "" } else { "if all(sum == Element(12345.0)) { y[lane] = sum; }" };
    format!(
        "{enable}alias Element = {element};
        @group(0) @binding(0) var<storage, read> x: array<Element>;
        @group(0) @binding(1) var<storage, read_write> y: array<Element>;
        @compute @workgroup_size({size}) fn f(
            @builtin(workgroup_id) id: vec3<u32>,
            @builtin(num_workgroups) grid: vec3<u32>,
            @builtin(local_invocation_index) lane: u32,
        ) {{
            let own = id.y * grid.x + id.x;
            let workgroup = {order};
            var at = workgroup * {size}u * 16u + lane;
            let end = at + {size}u * 16u;
            var sum = Element();
            for (; at < end; at += {at_once}u * {stride}) {{ {loads} {uses} }}
            {end}
        }}"
    )
}

/// Measures GB/s by loop shape.
fn streams(gpu: &Gpu, clock: &Clock<'_>, bytes: u64) -> Result<()> {
    let (x, y) = (filled(gpu, bytes), filled(gpu, bytes));
    let has_f16 = gpu.profile().features.contains(wgpu::Features::SHADER_F16);
    for (element, width) in [("vec4<f32>", 16), ("vec4<f16>", 8), ("vec2<f32>", 8), ("f32", 4)] {
        if element.contains("f16") && !has_f16 {
            continue;
        }
        for (writes, size, at_once, checked) in [true, false].into_iter().flat_map(|writes| {
            let shapes = [
                (256, 1, true),
                (256, 1, false),
                (256, 2, true),
                (256, 4, true),
                (256, 4, false),
                (256, 8, true),
                (256, 16, true),
                (128, 4, true),
                (512, 1, true),
                (512, 4, true),
                (1024, 1, true),
                (1024, 4, true),
            ];
            shapes.map(|(size, at_once, checked)| (writes, size, at_once, checked))
        }) {
            let wgsl = stream(size, at_once, element, writes, &format!("{size}u"), "own");
            let kernel = Kernel::new(gpu, &wgsl, checked, &[&x, &y]);
            let workgroups = (bytes / (u64::from(size) * 16 * width)) as u32;
            let times = clock.time(9, |_, pass| kernel.record(pass, workgroups))?;
            let moved = bytes * if writes { 2 } else { 1 };
            println!(
                "{}",
                json!({
                    "limit": if writes { "copy" } else { "read" }, "element": element, "workgroup": size, "at_once": at_once,
                    "checked": checked, "gb_per_s": moved as f64 / median(&times) / 1e6,
                })
            );
        }
    }
    Ok(())
}

/// Measures the microseconds of a read and of a second read of the same bytes, in the same order and backwards.
/// Reads other memory between two such pairs. Then measures the same with a copy as the second, as in a pass that
/// reads its input twice.
fn caches(gpu: &Gpu, clock: &Clock<'_>, large: u64) -> Result<()> {
    let (other, y) = (filled(gpu, large), filled(gpu, large));
    let shader = |writes, order| stream(256, 4, "vec4<f32>", writes, "256u", order);
    let sizes = [4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 256].map(|size| size * MIB);
    for bytes in sizes.into_iter().filter(|bytes| *bytes <= large) {
        let x = filled(gpu, bytes);
        let workgroups = (bytes / (256 * 16 * 16)) as u32;
        let evict = Kernel::new(gpu, &shader(false, "own"), true, &[&other, &y]);
        let read = Kernel::new(gpu, &shader(false, "own"), true, &[&x, &y]);
        for (order, name) in [("own", "same"), ("grid.x * grid.y - 1u - own", "backwards")] {
            for writes in [false, true] {
                let again = Kernel::new(gpu, &shader(writes, order), true, &[&x, &y]);
                let times = clock.time(3 * 7, |k, pass| match k % 3 {
                    0 => evict.record(pass, (large / (256 * 16 * 16)) as u32),
                    1 => read.record(pass, workgroups),
                    _ => again.record(pass, workgroups),
                })?;
                let of = |which| times.iter().copied().skip(which).step_by(3).collect::<Vec<_>>();
                println!(
                    "{}",
                    json!({
                        "limit": "cache", "mib": bytes / MIB, "again": if writes { "copied" } else { "read" }, "order": name,
                        "first_us": median(&of(1)) * 1e3, "again_us": median(&of(2)) * 1e3,
                    })
                );
            }
        }
    }
    Ok(())
}

/// Checks whether the device rounds f32 to the nearest f16, ties to even. Tries every f16 number, the midpoint to
/// the next one, and the midpoint's neighbours.
fn rounding(gpu: &Gpu) -> Result<()> {
    let widened = |bits: u16| f16::from_bits(bits).to_f32();
    let mut values = Vec::new();
    for bits in
        (0..=u16::MAX).filter(|&bits| widened(bits).is_finite() && widened(bits.wrapping_add(1)).is_finite())
    {
        let half_way = (widened(bits) + widened(bits.wrapping_add(1))) / 2.0;
        values.extend([half_way.next_down(), half_way, half_way.next_up(), widened(bits)]);
    }
    let count = values.len() as u64;
    use wgpu::BufferUsages as Usage;
    let buffer = |usage| {
        gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4 * count,
            usage,
            mapped_at_creation: false,
        })
    };
    let x = buffer(Usage::STORAGE | Usage::COPY_DST);
    gpu.queue().write_buffer(
        &x,
        0,
        &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(),
    );
    let mut ways = vec![("", "u32", "pack2x16float")];
    if gpu.profile().features.contains(wgpu::Features::SHADER_F16) {
        ways.push(("enable f16;", "vec2<f16>", "vec2<f16>"));
    }
    for (enable, pair, convert) in ways {
        let (y, mapped) =
            (buffer(Usage::STORAGE | Usage::COPY_SRC), buffer(Usage::COPY_DST | Usage::MAP_READ));
        let wgsl = format!(
            "{enable}
            @group(0) @binding(0) var<storage, read> x: array<f32>;
            @group(0) @binding(1) var<storage, read_write> y: array<{pair}>;
            @compute @workgroup_size(64) fn f(@builtin(global_invocation_id) id: vec3<u32>) {{
                let k = id.x;
                if k < arrayLength(&x) {{ y[k] = {convert}(vec2<f32>(x[k], 0.0)); }}
            }}"
        );
        let kernel = Kernel::new(gpu, &wgsl, true, &[&x, &y]);
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        kernel.record(&mut encoder.begin_compute_pass(&Default::default()), count.div_ceil(64) as u32);
        encoder.copy_buffer_to_buffer(&y, 0, &mapped, 0, 4 * count);
        gpu.queue().submit([encoder.finish()]);
        let found = read_u32(gpu, &mapped)?;
        let is_wrong = |(value, found): (&f32, u32)| f16::from_f32(*value).to_bits() != found as u16;
        let wrong: Vec<f32> =
            values.iter().zip(found).filter(|&(v, f)| is_wrong((v, f))).map(|(v, _)| *v).collect();
        let subnormal = wrong.iter().filter(|value| value.abs() < 6.103_515_6e-5).count();
        println!(
            "{}",
            json!({"limit": "rounding", "by": convert, "values": count, "not_nearest_even": wrong.len(), "of_these_subnormal": subnormal})
        );
    }
    Ok(())
}
