//! A fully connected layer, on the CPU.

use super::sgd::{Parameter, Sgd};
use ndarray::{Array1, Array2, Axis, Ix1, Ix2};
use wgpu_batchnorm::verify::Random;

/// y = x · weight + bias, with x `[N, inputs]` and y `[N, outputs]`.
pub(crate) struct Dense {
    /// `[inputs, outputs]`.
    pub(crate) weight: Parameter<Ix2>,
    /// `[outputs]`. `None` if batch norm follows, which would subtract the bias with the mean.
    pub(crate) bias: Option<Parameter<Ix1>>,
    x: Array2<f32>,
}

impl Dense {
    /// Draws normal weights with mean 0 and this standard deviation. The bias is 0.
    pub(crate) fn new(inputs: usize, outputs: usize, std: f64, random: &mut Random) -> Self {
        let weight = Array2::from_shape_simple_fn((inputs, outputs), || (std * random.normal()) as f32);
        let bias = Some(Parameter::new(Array1::zeros(outputs)));
        Self { weight: Parameter::new(weight), bias, x: Array2::zeros((0, inputs)) }
    }

    /// Returns the same layer without a bias.
    pub(crate) fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }

    /// Returns y. Keeps x for [`backward`](Self::backward).
    pub(crate) fn forward(&mut self, x: Array2<f32>) -> Array2<f32> {
        let mut y = x.dot(&self.weight.value);
        if let Some(bias) = &self.bias {
            y += &bias.value;
        }
        self.x = x;
        y
    }

    /// Returns dx = dy · weightᵀ. Stores dweight = xᵀ · dy and dbias = Σ dy with the parameters.
    pub(crate) fn backward(&mut self, dy: &Array2<f32>) -> Array2<f32> {
        self.weight.gradient = self.x.t().dot(dy);
        if let Some(bias) = &mut self.bias {
            bias.gradient = dy.sum_axis(Axis(0));
        }
        dy.dot(&self.weight.value.t())
    }

    /// Takes a step down the gradients of the last backward pass.
    pub(crate) fn step(&mut self, sgd: Sgd) {
        self.weight.step(sgd);
        if let Some(bias) = &mut self.bias {
            bias.step(sgd);
        }
    }
}
