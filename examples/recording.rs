//! Records batch norm between passes of one's own, on one's own device with wgpu's default limits, and submits all of it
//! at once.
//!
//!     cargo run --example recording
//!
//! The pass before doubles x; the pass after adds 1 to y.

use wgpu_batchnorm::record::Binding;
use wgpu_batchnorm::{
    BatchNormConfig, Buffers, ForwardOptions, Gpu, Layout, Mode, Plan, PlanInput, Problem, Tensor, wgpu,
};

/// `values[i] = values[i] · factor + summand`.
const OWN: &str = "
@group(0) @binding(0) var<storage, read_write> values: array<f32>;
override factor: f32;
override summand: f32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&values) {
        values[id.x] = values[id.x] * factor + summand;
    }
}";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The program's own device, with the limits and features that wgpu gives by default.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;

    // Once for a shape: a plan, its kernels, and its buffers.
    let gpu = Gpu::from_wgpu(&device, &queue);
    let config = BatchNormConfig::new(3);
    let problem = Problem::new(&[4, 3, 5, 5], Layout::ChannelsFirst)?;
    let input = PlanInput::new(&problem, &config, Mode::Train, gpu.profile());
    let plan = Plan::forward(&input, &ForwardOptions::new())?;
    println!("{plan}");
    let buffers: Vec<(Binding, wgpu::Buffer)> = plan
        .buffers()
        .into_iter()
        .map(|(binding, size)| {
            let usage =
                wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            let label = Some(binding.name());
            let buffer = device.create_buffer(&wgpu::BufferDescriptor {
                label,
                size,
                usage,
                mapped_at_creation: false,
            });
            (binding, buffer)
        })
        .collect();
    let find =
        |wanted: Binding| buffers.iter().find(|(binding, _)| *binding == wanted).map(|(_, buffer)| buffer);
    let (x, y) = (find(Binding::X).ok_or("no x")?, find(Binding::Y).ok_or("no y")?);
    // New buffers are zero, as β, the running mean and the count begin. γ and the running variance begin with ones.
    for buffer in [Binding::Weight, Binding::RunningVar].into_iter().filter_map(find) {
        queue.write_buffer(buffer, 0, bytemuck::cast_slice(&[1.0f32; 3]));
    }
    let bound = Buffers::from_fn(|binding| find(binding).map(Into::into));
    let batch_norm = gpu.prepare(&plan)?.bind(&bound)?;

    let values: Vec<f32> = (0..problem.elements()).map(|k| ((k * 7) % 11) as f32).collect();
    queue.write_buffer(x, 0, bytemuck::cast_slice(&values));

    // As often as you like: all passes in one submission.
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    own_pass(&device, &mut encoder, x, 2.0, 0.0);
    batch_norm.record(&mut encoder);
    own_pass(&device, &mut encoder, y, 1.0, 1.0);
    queue.submit([encoder.finish()]);

    let y = Tensor::from_buffer(&gpu, y, 0, &[4, 3, 5, 5], Layout::ChannelsFirst)?.to_array()?;
    let mean = y.mean().ok_or("no values")?;
    println!("the mean of bn(2 · x) + 1 is {mean:.4}");
    assert!((mean - 1.0).abs() < 1e-4, "{mean}");
    Ok(())
}

/// Records a pass of the program itself.
fn own_pass(
    device: &wgpu::Device,
    encoder: &mut wgpu::CommandEncoder,
    buffer: &wgpu::Buffer,
    factor: f64,
    summand: f64,
) {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(OWN.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("own pass"),
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &[("factor", factor), ("summand", summand)],
            ..Default::default()
        },
        cache: None,
    });
    let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }],
    });
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &bind_group, &[]);
    pass.dispatch_workgroups((buffer.size() as u32 / 4).div_ceil(64), 1, 1);
}
