//! What the memory gives: the best of several plain copies.

use super::timing::{Clock, Times};
use wgpu_batchnorm::{Gpu, Layout, Result, Tensor, wgpu};

/// Bytes of the copied buffer: larger than last-level caches, where the device binds so much.
const BYTES: u64 = 1 << 26;

/// Copy rates, in GB/s of bytes read and written.
pub(crate) struct Ceilings {
    pub(crate) shader: f64,
    pub(crate) buffer: f64,
    /// The geometry of the best shader.
    pub(crate) geometry: String,
}

pub(crate) fn measure(gpu: &Gpu, clock: &Clock<'_>, runs: usize) -> Result<Ceilings> {
    let limits = &gpu.profile().limits;
    let bytes = BYTES.min(limits.max_storage_buffer_binding_size).min(limits.max_buffer_size);
    let elements = (bytes / 4) as usize;
    let x = Tensor::zeros(gpu, &[elements], Layout::ChannelsFirst)?;
    let y = Tensor::zeros(gpu, &[elements], Layout::ChannelsFirst)?;
    let rate = |milliseconds: f64| 2.0 * bytes as f64 / milliseconds / 1e6;

    let (mut shader, mut geometry) = (0.0, String::new());
    let largest = limits.max_compute_invocations_per_workgroup;
    let subgroup = gpu.profile().subgroup_max_size.clamp(4, 64);
    let mut sizes = vec![subgroup, 64, 256];
    sizes.retain(|size| *size <= largest);
    sizes.dedup();
    for size in sizes {
        for (width, element) in [(1, "f32"), (4, "vec4<f32>")] {
            for trips in [1, 4, 64] {
                let pipeline = pipeline(gpu, size, element, trips);
                let bind_group = gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
                    label: None,
                    layout: &pipeline.get_bind_group_layout(0),
                    entries: &[
                        wgpu::BindGroupEntry { binding: 0, resource: x.buffer().as_entire_binding() },
                        wgpu::BindGroupEntry { binding: 1, resource: y.buffer().as_entire_binding() },
                    ],
                });
                let workgroups = (elements as u32).div_ceil(size * width * trips);
                let rows = workgroups.div_ceil(limits.max_compute_workgroups_per_dimension);
                let times = clock.time(runs, |_, pass| {
                    pass.set_pipeline(&pipeline);
                    pass.set_bind_group(0, &bind_group, &[]);
                    pass.dispatch_workgroups(workgroups.div_ceil(rows), rows, 1);
                })?;
                let found = rate(Times::median(&times.device));
                if found > shader {
                    shader = found;
                    geometry = format!("workgroups of {size}, {element}, {trips} each");
                }
            }
        }
    }
    Ok(Ceilings { shader, buffer: rate(buffer_copy(gpu, &x, &y, runs)), geometry })
}

fn pipeline(gpu: &Gpu, size: u32, element: &str, trips: u32) -> wgpu::ComputePipeline {
    let text = format!(
        "@group(0) @binding(0) var<storage, read> x: array<{element}>;
         @group(0) @binding(1) var<storage, read_write> y: array<{element}>;
         @compute @workgroup_size({size}) fn copy(
             @builtin(workgroup_id) id: vec3<u32>,
             @builtin(num_workgroups) grid: vec3<u32>,
             @builtin(local_invocation_index) lane: u32,
         ) {{
             let begin = (id.y * grid.x + id.x) * {size}u * {trips}u + lane;
             let end = min(begin + {size}u * {trips}u, arrayLength(&y));
             for (var k = begin; k < end; k += {size}u) {{ y[k] = x[k]; }}
         }}"
    );
    let module = gpu.device().create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("copy"),
        source: wgpu::ShaderSource::Wgsl(text.into()),
    });
    gpu.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("copy"),
        layout: None,
        module: &module,
        entry_point: Some("copy"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    })
}

/// Median milliseconds of `copy_buffer_to_buffer`, by the wall clock.
fn buffer_copy(gpu: &Gpu, x: &Tensor, y: &Tensor, runs: usize) -> f64 {
    let mut times: Vec<f64> = (0..runs + 2)
        .map(|_| {
            let started = std::time::Instant::now();
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(x.buffer(), 0, y.buffer(), 0, x.bytes());
            gpu.queue().submit([encoder.finish()]);
            let _ = gpu.device().poll(wgpu::PollType::wait_indefinitely());
            started.elapsed().as_secs_f64() * 1e3
        })
        .skip(2)
        .collect();
    times.sort_by(f64::total_cmp);
    Times::median(&times)
}
