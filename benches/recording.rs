//! What recording costs on the host: a plan of this crate, and the same wgpu calls by hand. wgpu only takes
//! note of what is recorded, and checks and encodes it when the encoder is finished; so each is timed without
//! and with that. And what comes before: binding buffers, and preparing a plan that is compiled already.

mod shared;

use criterion::Criterion;
use shared::{Memory, Pass};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};
use wgpu_batchnorm::kernels::{Access, Binding, Kernel};
use wgpu_batchnorm::{Gpu, Layout, Plan, Result, wgpu};

/// The GPU has nothing to do here, so any shape will do.
const SHAPE: [usize; 4] = [8, 64, 28, 28];

/// Passes that are recorded in one encoder, as those of a deep network are.
const IN_ENCODER: u64 = 64;

/// Records something so many times.
type Record<'a> = &'a dyn Fn(&mut wgpu::CommandEncoder, u64);

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let gpu = Gpu::new()?;
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    for pass in Pass::ALL {
        let plans = pass.plans(&gpu, &SHAPE, Layout::ChannelsFirst)?;
        let memory = Memory::new(&gpu, &plans)?;
        let buffers = memory.buffers();
        let prepared = plans.iter().map(|plan| gpu.prepare(plan)).collect::<Result<Vec<_>>>()?;
        let bound = memory.bind(&gpu, &plans)?;
        let by_hand: Vec<Vec<Dispatch>> = plans.iter().map(|plan| by_hand(&gpu, plan, &memory)).collect();
        let dispatches: usize = by_hand.iter().map(Vec::len).sum();
        let plan_in = |pass: &mut wgpu::ComputePass<'_>| bound.iter().for_each(|plan| plan.record_in(pass));
        let hand_in = |pass: &mut wgpu::ComputePass<'_>| by_hand.iter().for_each(|plan| record(plan, pass));
        let plan = |encoder: &mut wgpu::CommandEncoder| bound.iter().for_each(|plan| plan.record(encoder));
        let hand = |encoder: &mut wgpu::CommandEncoder| {
            for dispatches in &by_hand {
                record(dispatches, &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
            }
        };
        let ways: [(&str, Record<'_>); 4] = [
            ("in one compute pass", &|encoder, times| in_pass(encoder, times, &plan_in)),
            ("in one compute pass, by hand", &|encoder, times| in_pass(encoder, times, &hand_in)),
            ("in passes of their own", &|encoder, times| (0..times).for_each(|_| plan(encoder))),
            ("in passes of their own, by hand", &|encoder, times| (0..times).for_each(|_| hand(encoder))),
        ];
        let mut group = criterion.benchmark_group(format!("{}, {dispatches} dispatches", pass.name()));
        for (name, way) in ways {
            for (until, finish) in [("recorded", false), ("finished", true)] {
                group.bench_function(format!("{until} {name}"), |bencher| {
                    bencher.iter_custom(|times| time(&gpu, times, finish, way));
                });
            }
        }
        group.bench_function("bound", |bencher| {
            bencher.iter_custom(|times| {
                in_batches(times, |times| {
                    let started = Instant::now();
                    let bind =
                        |_| prepared.iter().try_for_each(|plan| plan.bind(black_box(&buffers)).map(drop));
                    let bound = (0..times).try_for_each(bind);
                    let elapsed = started.elapsed();
                    // Criterion takes no errors.
                    bound.unwrap_or_else(|error| panic!("{error}"));
                    // What the uniforms are filled from is freed with the next submission.
                    gpu.queue().submit([]);
                    elapsed
                })
            });
        });
        group.bench_function("prepared once more", |bencher| {
            bencher.iter(|| plans.iter().try_for_each(|plan| gpu.prepare(black_box(plan)).map(drop)));
        });
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

fn in_pass(encoder: &mut wgpu::CommandEncoder, times: u64, record: &dyn Fn(&mut wgpu::ComputePass<'_>)) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    (0..times).for_each(|_| record(&mut pass));
}

/// How long it takes to record something so many times, and to finish the encoders where that is wanted. What
/// is recorded is thrown away.
fn time(gpu: &Gpu, times: u64, finish: bool, record: Record<'_>) -> Duration {
    in_batches(times, |times| {
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let started = Instant::now();
        record(&mut encoder, times);
        let recorded = started.elapsed();
        let commands = encoder.finish();
        let finished = started.elapsed();
        drop(commands);
        if finish { finished } else { recorded }
    })
}

/// The sum of what is told for batches of at most [`IN_ENCODER`].
fn in_batches(times: u64, batch: impl Fn(u64) -> Duration) -> Duration {
    let batches = (0..times).step_by(IN_ENCODER as usize).map(|done| IN_ENCODER.min(times - done));
    batches.map(batch).sum()
}

/// A dispatch without this crate.
struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    grid: [u32; 3],
}

fn record(dispatches: &[Dispatch], pass: &mut wgpu::ComputePass<'_>) {
    for Dispatch { pipeline, bind_group, grid: [x, y, z] } in dispatches {
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, bind_group, &[]);
        pass.dispatch_workgroups(*x, *y, *z);
    }
}

/// The kernels of a plan on the same buffers, in the plainest way.
fn by_hand(gpu: &Gpu, plan: &Plan, memory: &Memory) -> Vec<Dispatch> {
    let device = gpu.device();
    let params = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: plan.bytes_of(Binding::Params),
        usage: wgpu::BufferUsages::UNIFORM,
        mapped_at_creation: false,
    });
    let dispatch = |step: &wgpu_batchnorm::plan::Step| {
        let bindings = step.kernel.bindings();
        let entries = bindings.iter().map(|&(binding, access)| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match access {
                    Access::Uniform => wgpu::BufferBindingType::Uniform,
                    Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        });
        let entries: Vec<_> = entries.collect();
        let group_layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&group_layout)],
            immediate_size: 0,
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(step.kernel.wgsl().into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&layout),
            module: &module,
            entry_point: Some(Kernel::ENTRY_POINT),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let entries = bindings.iter().map(|&(binding, _)| {
            let buffer = match binding {
                Binding::Params => Some(&params),
                binding => memory.buffer(binding),
            };
            let buffer = buffer.unwrap_or_else(|| panic!("{} is missing", binding.name()));
            wgpu::BindGroupEntry { binding: binding as u32, resource: buffer.as_entire_binding() }
        });
        let entries: Vec<_> = entries.collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &group_layout, entries: &entries };
        Dispatch { pipeline, bind_group: device.create_bind_group(&descriptor), grid: step.grid }
    };
    plan.steps().iter().map(dispatch).collect()
}
