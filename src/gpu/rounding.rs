//! How a device converts f32 to f16.
//!
//! WGSL allows both neighbours of a value. A device that takes the nearest, of two the even one, saves kernels the
//! arithmetic for it.

use super::Gpu;
use crate::error::Result;
use crate::gpu::transfer::{Readback, Staging};
use half::f16;

/// Converts four values at once, and the same values one by one; and packs what they became into words. Values come from
/// memory, so that nothing is computed when the shader is compiled.
const SHADER: &str = "
enable f16;
@group(0) @binding(0) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> converted: array<vec4<f16>>;
@group(0) @binding(2) var<storage, read_write> packed: array<vec2<u32>>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let value = values[id.x];
    converted[2u * id.x] = vec4<f16>(value);
    converted[2u * id.x + 1u] = vec4<f16>(f16(value.x), f16(value.y), f16(value.z), f16(value.w));
    let nearest = vec4<f32>(vec4<f16>(value));
    packed[id.x] = vec2<u32>(pack2x16float(nearest.xy), pack2x16float(nearest.zw));
}";

/// Values that a conversion can get wrong: each f16, the midpoint to the next one, the neighbours of the midpoint; and
/// what is larger or smaller than any f16, or no number.
fn values() -> Vec<f32> {
    let number = |bits: u16| f16::from_bits(bits).to_f32();
    let mut values =
        vec![65_520f32, 65_519.996, 70_000.0, 1e30, f32::MAX, f32::INFINITY, f32::MIN_POSITIVE, 1e-40];
    values.extend(values.clone().iter().map(|value| -value));
    // Its bits must stay in its own half of a word.
    values.extend([f32::NAN, 1.0, -1.0, -f32::NAN, 1.0, f32::from_bits(0x7fff_ffff), f32::NAN, -1.0]);
    for sign in [0, 0x8000] {
        for bits in 0..0x7bff {
            let half_way = (number(sign | bits) + number(sign | (bits + 1))) / 2.0;
            values.extend([number(sign | bits), half_way, half_way.next_down(), half_way.next_up()]);
        }
    }
    values
}

/// Returns whether the device converts every value to the nearest f16, ties to even. `false` without
/// [`wgpu::Features::SHADER_F16`], or if the device fails.
pub(crate) async fn rounds_f16(gpu: &Gpu) -> bool {
    if !gpu.profile().features.contains(wgpu::Features::SHADER_F16) {
        return false;
    }
    let values = values();
    converted(gpu, SHADER, &values).await.is_ok_and(|found| is_nearest(&values, &found))
}

/// Returns whether the conversions are the nearest: four at once, one by one, and packed.
fn is_nearest(values: &[f32], found: &[u16]) -> bool {
    let expected = values.chunks(4).flat_map(|four| [four, four]).flatten().chain(values);
    let is_it = |(value, found): (&f32, &u16)| {
        let nearest = f16::from_f32(*value);
        nearest.to_bits() == *found || (nearest.is_nan() && f16::from_bits(*found).is_nan())
    };
    found.len() == 3 * values.len() && expected.zip(found).all(is_it)
}

/// Runs the shader on the values, a multiple of four, and returns what it wrote: what it converted, then what it packed.
async fn converted(gpu: &Gpu, shader: &'static str, values: &[f32]) -> Result<Vec<u16>> {
    let input = gpu.filled_buffer("values", bytemuck::cast_slice(values))?;
    let output = gpu.storage_buffer("converted", input.size())?;
    let words = gpu.storage_buffer("packed", input.size() / 2)?;
    let device = gpu.device();
    let encoder = gpu.scoped(|| {
        let source = wgpu::ShaderSource::Wgsl(shader.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let entries = [(0, &input), (1, &output), (2, &words)]
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
        let layout = &pipeline.get_bind_group_layout(0);
        let bind_group =
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
        let mut encoder = gpu.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            // Writes behind a buffer's end are none.
            pass.dispatch_workgroups(values.len().div_ceil(4 * 64) as u32, 1, 1);
        }
        Ok(encoder)
    })?;
    let regions = [(&output, 0, output.size()), (&words, 0, words.size())];
    let staging = Staging::default().take_readback(gpu, &regions)?;
    let readback = Readback::submit(gpu, encoder, &regions, staging, None);
    Ok(readback.wait_async(|parts| bytemuck::pod_collect_to_vec(&parts.concat())).await?.0)
}

#[cfg(test)]
mod tests {
    use super::{SHADER, converted, is_nearest, rounds_f16, values};
    use crate::error::Result;
    use crate::gpu::{Gpu, GpuOptions};

    /// A conversion that truncates, one that flushes small numbers, and one that takes the wrong one of two that are as
    /// near are found.
    #[test]
    fn other_roundings_are_found() -> Result<()> {
        let gpu = Gpu::new()?;
        let values = values();
        assert_eq!(values.len() % 4, 0);
        if !gpu.profile().features.contains(wgpu::Features::SHADER_F16) {
            assert!(!pollster::block_on(rounds_f16(&gpu)));
            return Ok(());
        }
        // Software drivers convert as processors do.
        assert!(pollster::block_on(rounds_f16(&gpu)));
        let with = |value: &str| {
            let shader = SHADER.replace("let value = values[id.x];", value);
            assert_ne!(shader, SHADER);
            let found = pollster::block_on(converted(&gpu, shader.leak(), &values))?;
            Ok::<bool, crate::Error>(is_nearest(&values, &found))
        };
        assert!(with("let value = values[id.x] + vec4<f32>();")?);
        let bits = "let bits = bitcast<vec4<u32>>(values[id.x]);";
        for wrong in [
            "let value = bitcast<vec4<f32>>(bits & vec4<u32>(0xffffe000u));",
            "let value = bitcast<vec4<f32>>(bits | vec4<u32>(1u));",
            "let value = select(vec4<f32>(), values[id.x], abs(values[id.x]) >= vec4<f32>(6.103515625e-5));",
            "let value = min(values[id.x], vec4<f32>(65504.0));",
        ] {
            assert!(!with(&format!("{bits} {wrong}"))?, "{wrong}");
        }
        // Without the feature, there is nothing to convert to.
        let without = Gpu::with_options(&GpuOptions::new().without_f16())?;
        assert!(!pollster::block_on(rounds_f16(&without)));
        Ok(())
    }
}
