//! Many calls of changing shapes, with errors in between: nothing may grow. A process of its own runs them, since it looks
//! at its memory, files and threads.

use crate::support;
use wgpu_batchnorm::internals::tests_are_exhaustive;
use wgpu_batchnorm::ndarray::ArrayD;
use wgpu_batchnorm::{
    Activation, BatchNorm, BatchNormConfig, DType, Error, Gpu, GradientMask, Layout, Tensor, wgpu,
};

/// What must not grow.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    /// Bytes allocated on the device.
    bytes: u64,
    allocations: usize,
    /// Open files of this process, and its threads.
    files: usize,
    threads: usize,
    /// Memory of this process, in MiB.
    resident: usize,
}

impl Held {
    fn now(gpu: &Gpu) -> Self {
        wait_for_threads();
        let count = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
        let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: usize = status.split(' ').nth(1).map_or(0, |pages| pages.parse().unwrap());
        Self {
            bytes: support::allocated(gpu),
            allocations: support::allocations(gpu).len(),
            files: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            resident: pages * 4 / 1024,
        }
    }
}

/// Waits for the threads that wait for the GPU, those of dropped futures among them. One that is still inside the driver when
/// the program ends may crash it.
fn wait_for_threads() {
    let is_waiting = |thread: std::io::Result<std::fs::DirEntry>| {
        let name = thread.and_then(|thread| std::fs::read_to_string(thread.path().join("comm")));
        name.is_ok_and(|name| name.starts_with("wgpu-batchnorm"))
    };
    let waiting = || std::fs::read_dir("/proc/self/task").is_ok_and(|mut threads| threads.any(is_waiting));
    let started = std::time::Instant::now();
    while waiting() {
        assert!(started.elapsed() < std::time::Duration::from_secs(60), "a thread waits for ever");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn shapes() -> Vec<(Vec<usize>, Layout)> {
    let mut shapes = Vec::new();
    for k in 1..=9 {
        shapes.push((vec![2, 4, k * 7, 5], Layout::ChannelsFirst));
        shapes.push((vec![k + 1, 3, 9, 4], Layout::ChannelsLast));
        shapes.push((vec![k * 37, 4], Layout::ChannelsFirst));
    }
    // Several dispatches.
    shapes.push((vec![2, 4, 20000], Layout::ChannelsFirst));
    shapes.push((vec![3000, 4], Layout::ChannelsFirst));
    shapes
}

/// One call of every kind, and one of every kind of error.
fn calls(layer: &mut BatchNorm, shape: &[usize], layout: Layout, turn: usize) -> Result<(), Error> {
    let gpu = layer.gpu().clone();
    let array = ArrayD::from_shape_fn(shape, |index| ((index[0] * 7 + index[1] * 3 + turn) % 11) as f32);
    match turn % 10 {
        0 => layer.forward_array(array.view()).map(drop)?,
        1 => pollster::block_on(layer.forward_array_async(array.view())).map(drop)?,
        2 => {
            layer.forward_array(array.view())?;
            layer.backward_array(array.view())?;
        }
        3 => {
            let x = Tensor::from_array(&gpu, array.view())?.with_layout(layout);
            let y = layer.forward(&x)?;
            layer.backward_masked(&y, GradientMask::PARAMETERS)?;
        }
        4 => {
            let x = Tensor::zeros_of(&gpu, DType::BF16, shape, layout)?;
            layer.forward_in_place(&x)?;
            assert!(matches!(layer.backward(&x), Err(Error::NoForward)));
        }
        5 => {
            let [x, y] = [(); 2].map(|()| Tensor::from_array(&gpu, array.view()));
            let (x, y) = (x?.with_layout(layout), y?.with_layout(layout));
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            layer.record_forward(&mut encoder, &x, &y)?;
            gpu.queue().submit([encoder.finish()]);
        }
        6 => {
            let wrong = Tensor::zeros(&gpu, &[2, 5, 3], Layout::ChannelsFirst)?;
            assert!(matches!(layer.forward(&wrong), Err(Error::Channels { .. })));
            let one = Tensor::zeros(&gpu, &[1, 4], Layout::ChannelsFirst)?;
            assert!(matches!(layer.forward(&one), Err(Error::OneValuePerChannel { .. })));
        }
        7 => {
            // wgpu refuses a mapped buffer when it is submitted.
            let mapped = gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 4 * array.len() as u64,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: true,
            });
            let x = Tensor::from_buffer(&gpu, &mapped, 0, shape, layout)?;
            assert!(matches!(layer.forward(&x), Err(Error::Gpu(_))));
        }
        8 => {
            let state = layer.state()?;
            layer.load_state(&state)?;
            layer.batch_statistics()?;
        }
        // A future that is dropped before it is ready.
        _ => {
            let mut future = Box::pin(layer.forward_array_async(array.view()));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = future.as_mut().poll(&mut context);
        }
    }
    Ok(())
}

/// The environment variable that tells the program that it is the one that is looked at.
const ALONE: &str = "WGPU_BATCHNORM_SOAK";

#[test]
fn nothing_grows() {
    if std::env::var_os(ALONE).is_some() {
        return soak();
    }
    let program = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "soak::nothing_grows", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&program.stdout) + String::from_utf8_lossy(&program.stderr);
    assert!(program.status.success() && output.contains("after "), "{}: {output}", program.status);
    println!("{output}");
}

fn soak() {
    let gpu = Gpu::new().unwrap();
    let config = BatchNormConfig::new(4).activation(Activation::Relu);
    let shapes = shapes();
    let mut layers = [Layout::ChannelsFirst, Layout::ChannelsLast]
        .map(|layout| BatchNorm::new(&gpu, config.clone().layout(layout)).unwrap());
    let mut turn = 0;
    let mut run = |number: usize| {
        for _ in 0..number {
            let (shape, layout) = &shapes[turn % shapes.len()];
            let layer = &mut layers[usize::from(*layout == Layout::ChannelsLast)];
            calls(layer, shape, *layout, turn).unwrap();
            turn += 1;
        }
        // The same calls come last before each look.
        layers.iter_mut().for_each(BatchNorm::release_buffers);
        layers.iter_mut().for_each(BatchNorm::clear_saved);
        Held::now(&gpu)
    };
    // Every kind of call with every shape: the numbers have no common divisor.
    let round = 10 * 29;
    let warm = run(2 * round);
    let calls = if tests_are_exhaustive() { 20_000 } else { 2 * round };
    let mut held = warm;
    for _ in 0..calls / round {
        held = run(round);
    }
    println!("{warm:?}, after {calls} calls {held:?}");
    // A leak would come thousands of times. Once are the buffers and the thread of the last call, which may not have ended,
    // and some pages of the allocator.
    assert!(
        held.bytes <= warm.bytes + 4096 && held.allocations <= warm.allocations + 2,
        "{warm:?}, {held:?}"
    );
    assert!(held.files <= warm.files + 1 && held.threads <= warm.threads + 2, "{warm:?}, {held:?}");
    assert!(held.resident <= warm.resident + 16, "{warm:?}, {held:?}");
}
