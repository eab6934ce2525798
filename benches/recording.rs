//! Times recording on the host: a plan of this crate, and the same wgpu calls by hand. wgpu only notes what is
//! recorded. It checks and encodes the commands when the encoder is finished, so each is timed without and with
//! that. Also times what comes before: binding buffers, and preparing a plan that is compiled already.

mod shared;

use criterion::Criterion;
use shared::Memory;
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};
use wgpu_batchnorm::internals::{Pass, dispatches};
use wgpu_batchnorm::{DType, Gpu, Layout, Result, wgpu};

/// The GPU has nothing to do here, so any shape will do.
const SHAPE: [usize; 4] = [8, 64, 28, 28];

/// Passes recorded in one encoder, as in a deep network.
const IN_ENCODER: u64 = 64;

/// Records something the given number of times.
type Record<'a> = &'a dyn Fn(&mut wgpu::CommandEncoder, u64);

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let gpu = Gpu::new()?;
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    for pass in Pass::ALL {
        let plans = pass.plans(&SHAPE, Layout::ChannelsFirst, DType::F32, gpu.profile())?;
        let memory = Memory::new(&gpu, &plans)?;
        let buffers = memory.buffers();
        let prepared = plans.iter().map(|plan| gpu.prepare(plan)).collect::<Result<Vec<_>>>()?;
        let bound = memory.bind(&gpu, &plans)?;
        let by_hand: Vec<Vec<Dispatch<'_>>> = bound.iter().map(|plan| dispatches(plan).collect()).collect();
        let count: usize = by_hand.iter().map(Vec::len).sum();
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
        let mut group = criterion.benchmark_group(format!("{}, {count} dispatches", pass.name()));
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
                    // The next submission frees the memory that the uniforms are filled from.
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

/// Returns the time to record something `times` times, and to finish the encoders if `finish` is set. Throws the
/// commands away.
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

/// Returns the sum of the times of batches of at most [`IN_ENCODER`].
fn in_batches(times: u64, batch: impl Fn(u64) -> Duration) -> Duration {
    let batches = (0..times).step_by(IN_ENCODER as usize).map(|done| IN_ENCODER.min(times - done));
    batches.map(batch).sum()
}

/// A dispatch without this crate.
type Dispatch<'a> = (&'a wgpu::ComputePipeline, &'a wgpu::BindGroup, [u32; 3]);

fn record(dispatches: &[Dispatch<'_>], pass: &mut wgpu::ComputePass<'_>) {
    for &(pipeline, bind_group, [x, y, z]) in dispatches {
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}
