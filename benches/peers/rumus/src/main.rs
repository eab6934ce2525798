//! Times rumus' `BatchNorm2d` on its wgpu backend, and compares what it computes with f64. See ../README.md.

#[path = "../../shared/args.rs"]
mod args;
#[path = "../../shared/reference.rs"]
mod reference;

use args::{Args, Pass};
use reference::{Problem, Results};
use rumus::autograd::{backward_with_grad, context::no_grad};
use rumus::backend::gpu::context::GpuContext;
use rumus::nn::{BatchNorm2d, Module, ModuleToGpu};
use rumus::tensor::Tensor;
use serde_json::json;
use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "\
Usage: rumus-batch-norm --shape N,C,… [--shape …] [--pass PASS …] [--runs N]

Prints a JSON line for each shape (channels first) and each PASS: forward_train,
forward_eval or forward_backward; all three by default. --runs: timed runs (20).
Shapes of other ranks than 4 are seen as [N, C, H, 1].";

/// Runs before the timed ones.
const WARMUP: usize = 3;

/// Inputs of a shape, dy and results included, take about so many bytes together, so that caches do not
/// hold them from one run to the next.
const ROTATED_BYTES: usize = 1 << 28;

fn main() -> ExitCode {
    let Some(args) = Args::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let Some(gpu) = GpuContext::get() else {
        eprintln!("no adapter for rumus");
        return ExitCode::from(2);
    };
    let adapter = adapter();
    for shape in &args.shapes {
        for &pass in &args.passes {
            let (times, right) = measure(gpu, shape, pass, args.runs);
            let line = json!({
                "peer": "rumus",
                "version": rumus_version(),
                "adapter": adapter.name,
                "driver": format!("{} {}", adapter.driver, adapter.driver_info),
                "shape": shape,
                "pass": pass.name(),
                "dtype": "f32",
                "layout": "channels-first",
                "clock": "wall",
                "median_ms": times[times.len() / 2],
                "min_ms": times[0],
                "right": right,
            });
            println!("{line}");
        }
    }
    ExitCode::SUCCESS
}

/// The adapter that rumus takes: it asks wgpu in the same way, and does not tell.
fn adapter() -> wgpu::AdapterInfo {
    let instance = wgpu::Instance::new(&wgpu::InstanceDescriptor::default());
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..Default::default()
    };
    pollster::block_on(instance.request_adapter(&options)).expect("rumus has found one").get_info()
}

/// The version that the lock file names.
fn rumus_version() -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let after = lock.split_once("name = \"rumus\"\nversion = \"").map_or("", |(_, after)| after);
    after.split('"').next().unwrap_or_default()
}

/// Milliseconds of the runs, sorted, and whether the results are right.
fn measure(gpu: &GpuContext, shape: &[usize], pass: Pass, runs: usize) -> (Vec<f64>, bool) {
    let problem = Problem::new(shape);
    let mut layer = layer(&problem);
    let four = vec![shape[0], shape[1], shape[2..].iter().product(), 1];
    let sets = (ROTATED_BYTES / (16 * problem.x.len())).clamp(1, 8);
    let tensor = |values: &[f32], tracked: bool| {
        let mut tensor = Tensor::new(values.to_vec(), four.clone());
        tensor.set_requires_grad(tracked);
        tensor.to_gpu();
        tensor
    };
    match pass {
        Pass::ForwardTrain | Pass::ForwardEval => {
            if pass == Pass::ForwardEval {
                layer.eval();
            }
            let xs: Vec<Tensor> = (0..sets).map(|_| tensor(&problem.x, false)).collect();
            // No graph is kept: a tape would grow from run to run.
            let run = |k: usize| {
                let _guard = no_grad();
                layer.forward(&xs[k])
            };
            let results = Results { y: host(&run(0)), ..Results::default() };
            let exact = match pass {
                Pass::ForwardEval => problem.after_eval(),
                _ => problem.after_training(),
            };
            (time(gpu, runs, |k| run(k % sets)), problem.agrees(&results, &exact))
        }
        Pass::ForwardBackward => {
            let xs: Vec<Tensor> = (0..sets).map(|_| tensor(&problem.x, true)).collect();
            let dys: Vec<Tensor> = (0..sets).map(|_| tensor(&problem.dy, false)).collect();
            let run = |k: usize| {
                let y = layer.forward(&xs[k]);
                let mut gradients = backward_with_grad(&y, dys[k].clone()).expect("a graph was recorded");
                let mut gradient = |id: Option<_>| gradients.remove(id.expect("it is tracked"));
                let found = [
                    gradient(xs[k].grad_id()),
                    gradient(Some(layer.weight.grad_id())),
                    gradient(Some(layer.bias.grad_id())),
                ];
                (y, found)
            };
            let (y, [dx, dweight, dbias]) = run(0);
            let of = |gradient: Option<Tensor>| gradient.as_ref().map(host).unwrap_or_default();
            let results = Results { y: host(&y), dx: of(dx), dweight: of(dweight), dbias: of(dbias) };
            (time(gpu, runs, |k| run(k % sets)), problem.agrees(&results, &problem.after_backward()))
        }
    }
}

/// A layer with the problem's parameters and running statistics, on the GPU.
fn layer(problem: &Problem) -> BatchNorm2d {
    let mut layer = BatchNorm2d::new(problem.channels);
    let mut state: HashMap<String, Tensor> = layer.state_dict("");
    for (name, tensor) in &mut state {
        let values = match name.split('.').next().unwrap_or_default() {
            "weight" => &problem.weight,
            "bias" => &problem.bias,
            "running_mean" => &problem.running_mean,
            _ => &problem.running_var,
        };
        *tensor = Tensor::new(values.clone(), vec![problem.channels]);
    }
    layer.load_state_dict(&state, "").expect("its own names");
    layer.to_gpu();
    layer
}

fn host(tensor: &Tensor) -> Vec<f64> {
    tensor.data().iter().map(|value| f64::from(*value)).collect()
}

/// From the call to the end of the work on the device.
fn time<T>(gpu: &GpuContext, runs: usize, mut run: impl FnMut(usize) -> T) -> Vec<f64> {
    let mut times = Vec::new();
    for k in 0..WARMUP + runs {
        let started = Instant::now();
        let results = run(k);
        gpu.device.poll(wgpu::Maintain::Wait);
        if k >= WARMUP {
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        drop(results);
    }
    times.sort_by(f64::total_cmp);
    times
}
