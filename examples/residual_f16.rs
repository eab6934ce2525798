//! The end of a ResNet block in f16, on tensors that stay on the GPU: two layers, of which the first has a fused ReLU, and
//! the second a residual and a ReLU.
//!
//!     cargo run --example residual_f16

use wgpu_batchnorm::half::f16;
use wgpu_batchnorm::ndarray::Array4;
use wgpu_batchnorm::{Activation, BatchNorm, BatchNormConfig, Gpu, Result, Tensor};

/// Images, channels, height and width.
const SHAPE: (usize, usize, usize, usize) = (4, 16, 14, 14);

fn main() -> Result<()> {
    let gpu = Gpu::new()?;
    let relu = || BatchNormConfig::new(SHAPE.1).activation(Activation::Relu);
    let (mut first, mut second) = (BatchNorm::new(&gpu, relu())?, BatchNorm::new(&gpu, relu())?);

    let images =
        Array4::from_shape_fn(SHAPE, |(n, c, h, w)| f16::from_f32(((n * 3 + c * h + w * w) % 17) as f32));
    let x = Tensor::from_array(&gpu, images.view())?;
    let hidden = first.forward(&x)?; // relu(bn(x))
    let y = second.forward_add(&hidden, &x)?; // relu(bn(hidden) + x)

    // dy, as a loss would leave it on the GPU: here y itself, the gradient of Σ y² / 2.
    let upper = second.backward(&y)?;
    let dhidden = upper.input.as_ref().expect("all gradients are computed");
    let lower = first.backward(dhidden)?;

    // What the residual passes on, and what goes through both layers, are both gradients of x.
    let [through, around] = [&lower.input, &upper.residual]
        .map(|gradient| gradient.as_ref().expect("all gradients are computed").to_array_of::<f16>());
    let dx = through?.mapv(f32::from) + around?.mapv(f32::from);
    println!("{}: y {:?}, dx {:?}", y.dtype(), y.shape(), dx.shape());
    for (name, gradient) in upper.parameters() {
        println!("d{name} {:.3}", gradient.to_array()?);
    }
    assert!(dx.iter().all(|value| value.is_finite()));
    Ok(())
}
