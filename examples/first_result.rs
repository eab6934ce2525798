//! Times a first result from nothing, and a second one.
//!
//!     cargo run --example first_result
//!
//! The first call compiles the kernels. Later ones find them compiled.

use std::time::Instant;
use wgpu_batchnorm::ndarray::Array4;
use wgpu_batchnorm::{BatchNorm, BatchNormConfig, ForwardOptions, Gpu, Tensor};

fn main() -> Result<(), wgpu_batchnorm::Error> {
    // Sixteen images of 28 × 28 with three channels: brightness gradients, a different one in each channel.
    let images = Array4::from_shape_fn((16, 3, 28, 28), |(n, c, h, w)| (n + h * (c + 1) + w) as f32 / 128.0);

    let start = Instant::now();
    let gpu = Gpu::new()?;
    println!("{:8.1} ms  open {}", milliseconds(start), gpu.profile());

    let mut bn = BatchNorm::new(&gpu, BatchNormConfig::new(3))?;
    let first = bn.forward_array(images.view())?;
    println!("{:8.1} ms  first result, kernels compiled on the way", milliseconds(start));

    let start = Instant::now();
    let second = bn.forward_array(images.view())?;
    println!("{:8.1} ms  second call", milliseconds(start));
    assert_eq!(first, second, "training uses the batch's own statistics, whatever came before");

    let x = Tensor::from_array(&gpu, images.view())?;
    println!("\n{}", bn.plan(&x, &ForwardOptions::new())?);
    println!("running mean {:.4}", bn.state()?.running_mean.unwrap_or_default());
    Ok(())
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
