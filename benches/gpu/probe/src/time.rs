//! Times passes as the crate plans them, on raw buffers, without checking results.

use crate::job::{Job, Options};
use crate::{Clock, Result, filled, median};
use serde_json::json;
use wgpu_batchnorm::record::Binding;
use wgpu_batchnorm::{BoundPlan, BufferRegion, Buffers, Gpu, Plan, wgpu};

/// Bytes that runs move before they reuse a set of buffers, and the maximum number of sets.
const ROTATED_BYTES: u64 = 1 << 28;
const MOST_SETS: u64 = 48;

pub(crate) fn run(gpu: &Gpu, args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    let clock = Clock::new(gpu)?;
    for job in options.jobs() {
        match measure(gpu, &clock, &job, options.runs) {
            Ok(line) => println!("{line}"),
            Err(error) => eprintln!("{}: {error}", job.json()),
        }
    }
    Ok(())
}

fn measure(gpu: &Gpu, clock: &Clock<'_>, job: &Job, runs: usize) -> Result<serde_json::Value> {
    let plans = job.plans(gpu.profile())?;
    let sum = |bytes: fn(&Plan) -> u64| plans.iter().map(bytes).sum::<u64>();
    let sets = ROTATED_BYTES.div_ceil(sum(Plan::floor_bytes).max(1)).clamp(1, MOST_SETS) as usize;
    let bound = plans.iter().map(|plan| bind(gpu, plan, sets)).collect::<Result<Vec<_>>>()?;
    let record = |k: usize, pass: &mut wgpu::ComputePass<'_>| {
        bound.iter().for_each(|plan| plan[k % sets].record_in(pass));
    };
    clock.time(sets, record)?;
    let single = clock.time(runs, record)?;
    let all = clock.time(1, |_, pass| (0..runs).for_each(|k| record(k, pass)))?;
    let steps = plans.iter().flat_map(Plan::steps).map(|step| {
        let workgroups: u64 = step.grid.iter().map(|&size| u64::from(size)).product();
        format!(
            "{} {workgroups}×{}{}",
            step.kernel.stem(),
            step.kernel.workgroup_size(),
            step.kernel.variant()
        )
    });
    let mut line = job.json();
    line["median_ms"] = json!(median(&single));
    line["min_ms"] = json!(single.iter().copied().fold(f64::INFINITY, f64::min));
    line["back_to_back_ms"] = json!(all[0] / runs as f64);
    line["floor_bytes"] = json!(sum(Plan::floor_bytes));
    line["moved_bytes"] = json!(sum(Plan::bytes_moved));
    line["steps"] = json!(steps.collect::<Vec<_>>());
    Ok(line)
}

/// Binds the plan to `sets` sets of tensors, which share parameters and scratch.
fn bind(gpu: &Gpu, plan: &Plan, sets: usize) -> Result<Vec<BoundPlan>> {
    let is_tensor = |binding| matches!(binding, Binding::X | Binding::Y | Binding::Dy | Binding::Dx);
    let make = |tensors: bool| -> Vec<(Binding, wgpu::Buffer)> {
        let needed = plan.buffers().into_iter().filter(|(binding, _)| is_tensor(*binding) == tensors);
        needed.map(|(binding, bytes)| (binding, filled(gpu, bytes))).collect()
    };
    let (shared, prepared) = (make(false), gpu.prepare(plan)?);
    let bind = |_| {
        let tensors = make(true);
        let find = |binding| tensors.iter().chain(&shared).find(|(other, _)| *other == binding);
        prepared
            .bind(&Buffers::from_fn(|binding| find(binding).map(|(_, buffer)| BufferRegion::from(buffer))))
    };
    (0..sets).map(|set| Ok(bind(set)?)).collect()
}
