//! `bench`: how fast the adapter normalises, beside what its memory gives.

mod ceiling;
mod sets;
mod timing;

use crate::Outcome;
use crate::adapter::{Common, Device};
use crate::error::{Error, Result};
use crate::terminal::Progress;
use clap::ValueEnum;
use serde_json::json;
use sets::{Set, Shape};
use std::io::Write;
use std::path::PathBuf;
use timing::{Clock, Times};
use wgpu_batchnorm::kernels::Binding;
use wgpu_batchnorm::ndarray::Array1;
use wgpu_batchnorm::verify::{Case, check};
use wgpu_batchnorm::{
    BackwardOptions, BatchNormConfig, BoundPlan, BufferRegion, Buffers, Gpu, Layout, Plan, Tensor,
};

/// Time shapes on the adapter, each checked against the CPU reference before
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shapes to time
    #[arg(long = "set", value_enum, value_name = "NAME", default_values_t = [Set::Peers])]
    sets: Vec<Set>,
    /// Only these passes
    #[arg(long = "pass", value_enum, value_name = "PASS")]
    passes: Vec<Pass>,
    /// Images in a batch of the set resnet50
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Timed runs of each
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pass {
    /// Forward in training
    #[value(name = "forward_train")]
    ForwardTrain,
    /// Forward in eval
    #[value(name = "forward_eval")]
    ForwardEval,
    /// Backward after a training pass
    #[value(name = "backward")]
    Backward,
    /// Forward in training and backward in one encoder
    #[value(name = "forward_backward")]
    ForwardBackward,
}

impl Pass {
    const ALL: [Self; 4] = [Self::ForwardTrain, Self::ForwardEval, Self::Backward, Self::ForwardBackward];

    fn name(self) -> &'static str {
        match self {
            Self::ForwardTrain => "forward_train",
            Self::ForwardEval => "forward_eval",
            Self::Backward => "backward",
            Self::ForwardBackward => "forward_backward",
        }
    }
}

/// Tensors of a training step together are at least so large, over all buffers that are rotated through.
const ROTATED_BYTES: u64 = 1 << 28;

pub(crate) fn bench(args: &Args, common: &Common, out: &mut impl Write) -> Result<Outcome> {
    let Device::Gpu(gpu) = common.device(false)? else { return Err(Error::BenchNeedsGpu) };
    let progress = Progress::new();
    let clock = Clock::new(&gpu);
    progress.show("measuring the ceilings");
    let ceilings = ceiling::measure(&gpu, &clock, args.runs.min(10))?;
    progress.clear();
    writeln!(
        out,
        "{}\nbest WGSL copy {:.2} GB/s ({}), copy_buffer_to_buffer {:.2} GB/s\n",
        gpu.profile(),
        ceilings.shader,
        ceilings.geometry,
        ceilings.buffer
    )?;
    let passes = if args.passes.is_empty() { &Pass::ALL[..] } else { &args.passes };
    let shapes: Vec<Shape> = args.sets.iter().flat_map(|set| set.shapes(args.batch)).collect();
    let (mut cases, mut right) = (Vec::new(), true);
    writeln!(
        out,
        "{:<22} {:<16} {:>9} {:>9} {:>9} {:>8} {:>6}",
        "shape", "pass", "median ms", "min ms", "wall ms", "GB/s", "copy"
    )?;
    for (k, shape) in shapes.iter().enumerate() {
        progress.show(&format!("{}/{} {:?}: checking", k + 1, shapes.len(), shape.sizes));
        let report = check(&case(shape), &gpu)?;
        if !report.passed() {
            right = false;
            writeln!(out, "FAIL {report}")?;
            continue;
        }
        for &pass in passes {
            progress.show(&format!("{}/{} {:?}: {}", k + 1, shapes.len(), shape.sizes, pass.name()));
            let prepared = Prepared::new(&gpu, shape, pass)?;
            let times = clock.time(args.runs, |run, compute| {
                prepared.bound[run % prepared.bound.len()].iter().for_each(|bound| bound.record_in(compute));
            })?;
            progress.clear();
            let median = Times::median(&times.device);
            let rate = prepared.floor_bytes as f64 / median / 1e6;
            let sizes: Vec<String> = shape.sizes.iter().map(ToString::to_string).collect();
            writeln!(
                out,
                "{:<22} {:<16} {median:>9.3} {:>9.3} {:>9.3} {rate:>8.2} {:>6.2}",
                sizes.join("×"),
                pass.name(),
                times.device.first().copied().unwrap_or(f64::NAN),
                Times::median(&times.wall),
                rate / ceilings.shader
            )?;
            cases.push(json!({
                "shape": shape.sizes,
                "layout": shape.layout.to_string(),
                "dtype": "f32",
                "pass": pass.name(),
                "median_ms": median,
                "min_ms": times.device.first(),
                "wall_ms": Times::median(&times.wall),
                "floor_gb_per_s": rate,
                "shader_copy_fraction": rate / ceilings.shader,
                "plan": prepared.plan,
            }));
        }
    }
    if let Some(path) = &args.json {
        let report = json!({
            "adapter": gpu.profile().name,
            "driver": gpu.profile().driver,
            "shader_copy_gb_per_s": ceilings.shader,
            "buffer_copy_gb_per_s": ceilings.buffer,
            "cases": cases,
        });
        std::fs::write(path, format!("{report:#}\n"))?;
    }
    Ok(Outcome::new(right))
}

fn config(shape: &Shape) -> BatchNormConfig {
    let channels = shape.sizes[shape.layout.channel_axis(shape.sizes.len())];
    BatchNormConfig::new(channels).layout(shape.layout)
}

/// The case that is checked: the shape itself, with the data of the table of cases.
fn case(shape: &Shape) -> Case {
    Case {
        name: format!("{:?}", shape.sizes),
        shape: shape.sizes.clone(),
        config: config(shape),
        training: true,
        steps: 1,
        mean: 0.0,
        std: 1.0,
        poison: None,
        seed: 1,
    }
}

/// A pass on several sets of buffers.
struct Prepared {
    bound: Vec<Vec<BoundPlan>>,
    floor_bytes: u64,
    plan: String,
}

impl Prepared {
    fn new(gpu: &Gpu, shape: &Shape, pass: Pass) -> Result<Self> {
        let config = config(shape);
        let training = pass != Pass::ForwardEval;
        let problem = config.problem(&shape.sizes, shape.layout, training)?;
        let forward = Plan::forward(&problem, &config, training, false, gpu.profile())?;
        let backward =
            Plan::backward(&problem, &config, training, &BackwardOptions::default(), gpu.profile())?;
        let plans: Vec<&Plan> = match pass {
            Pass::ForwardTrain | Pass::ForwardEval => vec![&forward],
            Pass::Backward => vec![&backward],
            Pass::ForwardBackward => vec![&forward, &backward],
        };
        let sets = (ROTATED_BYTES / forward.bytes_of(Binding::X).max(1) / 4).clamp(1, 8);
        let inputs = case(shape).inputs();
        let mut bound = Vec::new();
        for _ in 0..sets {
            let x = Tensor::from_array(gpu, inputs.xs[0].view())?;
            let dy = Tensor::from_array(gpu, inputs.dys[0].view())?;
            let zeros = |elements: usize| Tensor::zeros(gpu, &[elements], Layout::ChannelsFirst);
            let c = problem.channels;
            let ones = || Tensor::from_array(gpu, Array1::ones(c).view());
            let (y, dx) = (zeros(problem.elements())?, zeros(problem.elements())?);
            let (weight, bias, running_mean, running_var) = (ones()?, zeros(c)?, zeros(c)?, ones()?);
            let (dweight, dbias, count) = (zeros(c)?, zeros(c)?, zeros(2)?);
            let (statistics, projections) = (zeros(c * 4)?, zeros(c * 4)?);
            let scratch = plans.iter().map(|plan| plan.bytes_of(Binding::Partials)).max().unwrap_or(16);
            let partials = zeros(scratch as usize / 4)?;
            let buffers = Buffers {
                x: region(&x),
                y: region(&y),
                dy: region(&dy),
                dx: region(&dx),
                weight: region(&weight),
                bias: region(&bias),
                running_mean: region(&running_mean),
                running_var: region(&running_var),
                num_batches_tracked: region(&count),
                statistics: region(&statistics),
                partials: region(&partials),
                projections: region(&projections),
                dweight: region(&dweight),
                dbias: region(&dbias),
            };
            let of_set: wgpu_batchnorm::Result<Vec<BoundPlan>> =
                plans.iter().map(|plan| gpu.prepare(plan)?.bind(&buffers)).collect();
            bound.push(of_set?);
        }
        let floor_bytes = plans.iter().map(|plan| plan.floor_bytes()).sum();
        let plan = plans.iter().map(ToString::to_string).collect::<String>();
        Ok(Self { bound, floor_bytes, plan })
    }
}

fn region(tensor: &Tensor) -> Option<BufferRegion<'_>> {
    Some((tensor.buffer(), tensor.offset()).into())
}
