//! Times burn's `BatchNorm` on its wgpu backend, and compares what it computes with f64. See ../README.md.

#[path = "../../shared/args.rs"]
mod args;
#[path = "../../shared/reference.rs"]
mod reference;

use args::{Args, Pass};
use burn::module::{Module, Param, RunningState};
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{Device, Tensor, TensorData};
use reference::{Problem, Results};
use serde_json::json;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "\
Usage: burn-batch-norm --shape N,C,… [--shape …] [--pass PASS …] [--runs N]

Prints a JSON line for each shape (channels first) and each PASS: forward_train,
forward_eval or forward_backward; all three by default. --runs: timed runs (20).
CUBECL_WGPU_DEFAULT_DEVICE=Cpu, DiscreteGpu(0) … chooses an adapter.";

/// Runs before the timed ones: the first tunes kernels.
const WARMUP: usize = 5;

/// Inputs of a shape, dy and results included, take about so many bytes together, so that caches do not
/// hold them from one run to the next.
const ROTATED_BYTES: usize = 1 << 28;

fn main() -> ExitCode {
    let Some(args) = Args::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let options = Device::wgpu_options().graphics_api(WgpuBackend::Vulkan);
    let (device, setup) = match options.init_with_setup() {
        Ok(initialized) => initialized,
        Err(error) => {
            eprintln!("no Vulkan adapter for burn: {error}");
            return ExitCode::from(2);
        }
    };
    let adapter = setup.adapter.get_info();
    for shape in &args.shapes {
        for &pass in &args.passes {
            let (times, right) = match shape.len() {
                2 => measure::<2>(&device, shape, pass, args.runs),
                3 => measure::<3>(&device, shape, pass, args.runs),
                4 => measure::<4>(&device, shape, pass, args.runs),
                _ => measure::<5>(&device, shape, pass, args.runs),
            };
            let line = json!({
                "peer": "burn",
                "version": burn_version(),
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

/// The version that the lock file names.
fn burn_version() -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let after = lock.split_once("name = \"burn\"\nversion = \"").map_or("", |(_, after)| after);
    after.split('"').next().unwrap_or_default()
}

/// Milliseconds of the runs, sorted, and whether the results are right.
fn measure<const D: usize>(device: &Device, shape: &[usize], pass: Pass, runs: usize) -> (Vec<f64>, bool) {
    let problem = Problem::new(shape);
    let layer = layer(&problem, &device.clone().autodiff());
    let sets = (ROTATED_BYTES / (16 * problem.x.len())).clamp(1, 8);
    let tensors = |values: &[f32]| -> Vec<Tensor<D>> {
        (0..sets)
            .map(|_| Tensor::from_data(TensorData::new(values.to_vec(), shape.to_vec()), device))
            .collect()
    };
    let xs = tensors(&problem.x);
    match pass {
        Pass::ForwardTrain => {
            let run = |k: usize| layer.forward(xs[k].clone().autodiff().require_grad());
            let results = Results { y: host(run(0).inner()), ..Results::default() };
            (time(device, runs, |k| run(k % sets)), problem.agrees(&results, &problem.after_training()))
        }
        Pass::ForwardEval => {
            let layer = layer.valid();
            let run = |k: usize| layer.forward(xs[k].clone());
            let results = Results { y: host(run(0)), ..Results::default() };
            (time(device, runs, |k| run(k % sets)), problem.agrees(&results, &problem.after_eval()))
        }
        Pass::ForwardBackward => {
            let dys: Vec<Tensor<D>> = tensors(&problem.dy).into_iter().map(Tensor::autodiff).collect();
            let run = |k: usize| {
                let x = xs[k].clone().autodiff().require_grad();
                let y = layer.forward(x.clone());
                // Backward starts from ones: any other dy has to be multiplied in.
                let mut gradients = (y.clone() * dys[k].clone()).backward();
                let dx = x.grad_remove(&mut gradients).expect("x requires a gradient");
                let dweight = layer.gamma.val().grad_remove(&mut gradients).expect("gamma is a parameter");
                let dbias = layer.beta.val().grad_remove(&mut gradients).expect("beta is a parameter");
                (y, dx, dweight, dbias)
            };
            let (y, dx, dweight, dbias) = run(0);
            let results =
                Results { y: host(y.inner()), dx: host(dx), dweight: host(dweight), dbias: host(dbias) };
            (time(device, runs, |k| run(k % sets)), problem.agrees(&results, &problem.after_backward()))
        }
    }
}

/// A layer with the problem's parameters and running statistics.
fn layer(problem: &Problem, device: &Device) -> BatchNorm {
    let tensor =
        |values: &[f32]| Tensor::<1>::from_data(TensorData::new(values.to_vec(), [values.len()]), device);
    let mut layer = BatchNormConfig::new(problem.channels).init(device);
    layer.gamma = Param::from_tensor(tensor(&problem.weight));
    layer.beta = Param::from_tensor(tensor(&problem.bias));
    layer.running_mean = RunningState::new(tensor(&problem.running_mean));
    layer.running_var = RunningState::new(tensor(&problem.running_var));
    layer
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// From the call to the end of the work on the device.
fn time<T>(device: &Device, runs: usize, mut run: impl FnMut(usize) -> T) -> Vec<f64> {
    let mut times = Vec::new();
    for k in 0..WARMUP + runs {
        let started = Instant::now();
        // Results live until the work is done: of those that nobody holds, fusion spares the writing.
        let results = run(k);
        device.sync().expect("the device is lost");
        if k >= WARMUP {
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        drop(results);
    }
    times.sort_by(f64::total_cmp);
    times
}
