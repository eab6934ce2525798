//! How the elements of tensors lie in memory.

use super::VectorWidth;
use super::compose::Choice;
use crate::dtype::DType;
use crate::profile::AdapterProfile;

/// How the elements of tensors lie in memory. They are computed with as f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// As f32.
    F32,
    /// As f16, with [`wgpu::Features::SHADER_F16`].
    F16,
    /// As f16, two in a word, without that feature.
    PackedF16,
    /// As bf16, two in a word: WGSL has no such type.
    PackedBf16,
}

impl Storage {
    pub(super) const ALL: [Self; 4] = [Self::F32, Self::F16, Self::PackedF16, Self::PackedBf16];

    /// How elements of a type, so many of which are loaded at once, are best stored on a device.
    ///
    /// Software drivers load vectors element by element: there, two words take half as long as four f16.
    pub fn new(dtype: DType, width: VectorWidth, profile: &AdapterProfile) -> Self {
        let has_f16 = profile.features.contains(wgpu::Features::SHADER_F16);
        let by_words = profile.is_cpu() && width == VectorWidth::Four;
        match dtype {
            DType::F32 => Self::F32,
            DType::F16 if has_f16 && !by_words => Self::F16,
            DType::F16 => Self::PackedF16,
            DType::BF16 => Self::PackedBf16,
        }
    }

    /// Whether two elements share a word.
    fn is_words(self) -> bool {
        matches!(self, Self::PackedF16 | Self::PackedBf16)
    }

    /// The cases of the shader files.
    pub(super) fn choices(self, width: VectorWidth) -> Vec<Choice> {
        let storage = match (self, width) {
            (Self::F32, _) => "f32",
            (Self::F16, VectorWidth::Scalar) => "f16_scalar",
            (Self::F16, VectorWidth::Four) => "f16_vector",
            (Self::PackedF16 | Self::PackedBf16, VectorWidth::Scalar) => "packed_scalar",
            (Self::PackedF16 | Self::PackedBf16, VectorWidth::Four) => "packed_vector",
        };
        let mut choices = vec![("data/storage", storage)];
        match self {
            Self::F32 | Self::F16 => {}
            Self::PackedF16 => choices.push(("data/packed", "f16")),
            Self::PackedBf16 => choices.push(("data/packed", "bf16")),
        }
        choices
    }

    /// Chooses the atomic case if two invocations may write to one word.
    pub(super) fn atomic(
        self,
        width: VectorWidth,
        whole: &'static str,
        atomic: &'static str,
    ) -> &'static str {
        if self.is_words() && width == VectorWidth::Scalar { atomic } else { whole }
    }

    /// The name in a plan's printout; empty or with a comma in front.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::F16 => ", f16",
            Self::PackedF16 => ", f16 in words",
            Self::PackedBf16 => ", bf16 in words",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::VectorWidth;
    use super::super::compose::compose;
    use super::Storage;
    use crate::error::Result;
    use crate::gpu::Gpu;
    use crate::tensor::transfer::Readback;
    use half::{bf16, f16};

    /// All patterns of 16 bits.
    const PATTERNS: usize = 1 << 16;

    /// A shader that loads every element of x to `floats`, and one that stores them to y.
    fn shaders(storage: Storage, width: VectorWidth) -> [String; 2] {
        let vector = if width == VectorWidth::Scalar { "scalar" } else { "four_elements" };
        let mut choices = vec![("data/per_channel", "one"), ("data/vector", vector)];
        choices
            .extend([("tensors/x", "read"), ("tensors/y", storage.atomic(width, "store", "store_atomic"))]);
        choices.extend(storage.choices(width));
        let sections = compose(&["tensors/x", "tensors/y"], &choices).expect("both compose");
        let text: String = sections.into_iter().map(|(heading, section)| heading + section.text).collect();
        // y and x are not both used; the uniform is bound by neither, since both read a private copy.
        let text = text.replace("@group(0) @binding(0) var<uniform> uniform_params: Params;", "");
        let enable = if storage == Storage::F16 { "enable f16;\n" } else { "" };
        ["floats[id.x] = load_x(id.x)", "store_y(id.x, floats[id.x])"].map(|statement| {
            format!(
                "{enable}{text}\n@group(0) @binding(3) var<storage, read_write> floats: array<Vector>;\n\
                 @compute @workgroup_size(64)\n\
                 fn convert(@builtin(global_invocation_id) id: vec3<u32>) {{ {statement}; }}"
            )
        })
    }

    /// Runs a shader on x or y, and `floats`, and reads one of these back.
    fn run(
        gpu: &Gpu,
        shader: &str,
        (binding, tensor): (u32, &[u8]),
        floats: &[f32],
        loads: usize,
    ) -> Result<Vec<u32>> {
        let tensor = gpu.filled_buffer("tensor", tensor)?;
        let floats = gpu.filled_buffer("floats", bytemuck::cast_slice(floats))?;
        gpu.validated(|| {
            let module = gpu.device().create_shader_module(wgpu::ShaderModuleDescriptor {
                label: None,
                source: wgpu::ShaderSource::Wgsl(shader.into()),
            });
            let pipeline = gpu.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some("convert"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            });
            let entries = [(binding, &tensor), (3, &floats)].map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            });
            let bind_group = gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            let mut encoder = gpu.encoder();
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&pipeline);
                pass.set_bind_group(0, &bind_group, &[]);
                pass.dispatch_workgroups(loads as u32 / 64, 1, 1);
            }
            gpu.queue().submit([encoder.finish()]);
            let read = if binding == 1 { &floats } else { &tensor };
            let words = |parts: &[&[u8]]| bytemuck::pod_collect_to_vec(parts[0]);
            Ok(Readback::start(gpu, &[(read, 0, read.size())])?.wait(words)?.0)
        })
    }

    /// A storage, and the conversions that it is to make.
    type Conversions = (Storage, fn(u16) -> f32, fn(f32) -> u16);

    /// Those that this device has.
    fn storages(gpu: &Gpu) -> Vec<Conversions> {
        let to_f16 = |value: f32| f16::from_f32(value).to_bits();
        let from_f16 = |bits: u16| f16::from_bits(bits).to_f32();
        let mut storages: Vec<Conversions> = vec![
            (Storage::PackedF16, from_f16, to_f16),
            (
                Storage::PackedBf16,
                |bits| bf16::from_bits(bits).to_f32(),
                |value| bf16::from_f32(value).to_bits(),
            ),
        ];
        if gpu.profile().features.contains(wgpu::Features::SHADER_F16) {
            storages.push((Storage::F16, from_f16, to_f16));
        }
        storages
    }

    #[test]
    fn every_pattern_is_loaded_as_it_is() -> Result<()> {
        let gpu = Gpu::new()?;
        let patterns: Vec<u16> = (0..=u16::MAX).collect();
        for (storage, widened, _) in storages(&gpu) {
            for width in [VectorWidth::Scalar, VectorWidth::Four] {
                let loads = PATTERNS / width.elements() as usize;
                let [load, _] = shaders(storage, width);
                let tensor = (1, bytemuck::cast_slice(&patterns));
                let found = run(&gpu, &load, tensor, &vec![0.0; PATTERNS], loads)?;
                for (&bits, found) in patterns.iter().zip(found) {
                    let (found, exact) = (f32::from_bits(found), widened(bits));
                    let same = found.to_bits() == exact.to_bits() || (found.is_nan() && exact.is_nan());
                    assert!(same, "{storage:?} {width:?} {bits:#06x}: {found:e}, not {exact:e}");
                }
            }
        }
        Ok(())
    }

    /// Each number of the type; half way to the next one, where it must be the even one; and just before and behind
    /// that.
    #[test]
    fn every_number_is_rounded_to_the_nearest() -> Result<()> {
        let gpu = Gpu::new()?;
        for (storage, widened, narrowed) in storages(&gpu) {
            let mut values = vec![vec![0f32; PATTERNS]; 4];
            for bits in 0..=u16::MAX {
                let (number, next) = (widened(bits), widened(bits.wrapping_add(1)));
                // From the largest number on, the next one would be as far as the one before.
                let next = if next.is_finite() { next } else { 2.0 * number - widened(bits.wrapping_sub(1)) };
                let half_way = (f64::from(number) + f64::from(next)) / 2.0;
                let half_way = if number.is_finite() { half_way as f32 } else { number };
                let k = usize::from(bits);
                for (values, value) in
                    values.iter_mut().zip([number, half_way, half_way.next_down(), half_way.next_up()])
                {
                    values[k] = value;
                }
            }
            for width in [VectorWidth::Scalar, VectorWidth::Four] {
                let loads = PATTERNS / width.elements() as usize;
                let [_, store] = shaders(storage, width);
                for values in &values {
                    // What is there before must make no difference.
                    let found = run(&gpu, &store, (2, &vec![0x5a; 2 * PATTERNS]), values, loads)?;
                    let found: &[u16] = bytemuck::cast_slice(&found);
                    for (&value, &found) in values.iter().zip(found) {
                        let exact = narrowed(value);
                        let both_nan = value.is_nan() && widened(found).is_nan();
                        assert!(
                            found == exact || both_nan,
                            "{storage:?} {width:?}: {value:e} ({:#010x}) is stored as {found:#06x}, not {exact:#06x}",
                            value.to_bits()
                        );
                    }
                }
            }
        }
        Ok(())
    }
}
