//! Trains a perceptron with batch norm on arrays: forward, backward, and gradient descent on the parameters.
//!
//!     cargo run --example mlp
//!
//! Two classes of points, one inside a ring of the other: 2 → 16 → 1, with batch norm and ReLU between the layers. Batch
//! norm runs on the GPU, the two products on the CPU.

use wgpu_batchnorm::ndarray::{Array1, Array2, Axis};
use wgpu_batchnorm::{Activation, BatchNorm, BatchNormConfig, Gpu, Result};

/// Units of the hidden layer.
const HIDDEN: usize = 16;
const RATE: f32 = 0.1;

fn main() -> Result<()> {
    let gpu = Gpu::new()?;
    // ReLU is a part of the layer, forward and backward.
    let mut bn = BatchNorm::new(&gpu, BatchNormConfig::new(HIDDEN).activation(Activation::Relu))?;
    // Without a bias: batch norm has one.
    let mut first = Array2::from_shape_fn((2, HIDDEN), |(i, j)| ((i * 7 + j * 3) as f32).sin());
    let mut second = Array1::from_shape_fn(HIDDEN, |j| (j as f32 * 1.3).cos() * 0.3);
    let (x, labels) = rings(128, 0.0);

    for step in 0..200 {
        // Forward.
        let hidden = bn.forward_array(x.dot(&first).view())?;
        let probability = hidden.dot(&second).mapv(sigmoid);
        // Backward, from the mean of the cross entropy.
        let dlogit = (&probability - &labels) / labels.len() as f32;
        let dsecond = hidden.t().dot(&dlogit);
        let dhidden = outer(&dlogit, &second);
        let gradients = bn.backward_array(dhidden.view())?;
        let dfirst = x.t().dot(&gradients.input);
        // A step down the gradients.
        first.scaled_add(-RATE, &dfirst);
        second.scaled_add(-RATE, &dsecond);
        bn.update_parameters(&gradients, |_, value, gradient| value.scaled_add(-RATE, gradient))?;
        if step % 50 == 0 {
            println!("step {step}: {:.3} of the points are right", accuracy(&probability, &labels));
        }
    }

    // Points that the network has not seen, by the running statistics.
    let (x, labels) = rings(1000, 0.5);
    let hidden = bn.infer_array(x.dot(&first).view())?;
    let accuracy = accuracy(&hidden.dot(&second).mapv(sigmoid), &labels);
    println!("{accuracy:.3} of new points are right\n{bn}: {} parameters", bn.num_parameters());
    assert!(accuracy > 0.95, "{accuracy}");
    Ok(())
}

/// Returns points on two rings, and 1 for those of the outer one.
fn rings(count: usize, turn: f32) -> (Array2<f32>, Array1<f32>) {
    let labels = Array1::from_shape_fn(count, |n| (n % 2) as f32);
    let points = Array2::from_shape_fn((count, 2), |(n, axis)| {
        let (angle, radius) = (n as f32 * 0.7 + turn, 0.5 + labels[n] + 0.2 * (n as f32 * 2.1).sin());
        radius * if axis == 0 { angle.sin() } else { angle.cos() }
    });
    (points, labels)
}

fn outer(column: &Array1<f32>, row: &Array1<f32>) -> Array2<f32> {
    column.view().insert_axis(Axis(1)).dot(&row.view().insert_axis(Axis(0)))
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn accuracy(probability: &Array1<f32>, labels: &Array1<f32>) -> f64 {
    let right = probability.iter().zip(labels).filter(|(p, label)| (**p > 0.5) == (**label > 0.5)).count();
    right as f64 / labels.len() as f64
}
