//! A fully connected layer, on the CPU.

use super::sgd::{Parameter, Sgd};
use ndarray::{Array1, Array2, Axis, Ix1, Ix2};
use wgpu_batchnorm::verify::Random;

/// y = x · weight + bias, with x `[N, inputs]` and y `[N, outputs]`.
pub(crate) struct Dense {
    /// `[inputs, outputs]`.
    pub(crate) weight: Parameter<Ix2>,
    /// `[outputs]`. None where batch norm follows: it would subtract it again with the mean.
    pub(crate) bias: Option<Parameter<Ix1>>,
    x: Array2<f32>,
}

impl Dense {
    /// Normal weights with mean 0 and this standard deviation, and a bias of 0.
    pub(crate) fn new(inputs: usize, outputs: usize, std: f64, random: &mut Random) -> Self {
        let weight = Array2::from_shape_simple_fn((inputs, outputs), || (std * random.normal()) as f32);
        let bias = Some(Parameter::new(Array1::zeros(outputs)));
        Self { weight: Parameter::new(weight), bias, x: Array2::zeros((0, inputs)) }
    }

    /// The same layer without a bias.
    pub(crate) fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }

    /// y. Keeps x for [`backward`](Self::backward).
    pub(crate) fn forward(&mut self, x: Array2<f32>) -> Array2<f32> {
        let mut y = x.dot(&self.weight.value);
        if let Some(bias) = &self.bias {
            y += &bias.value;
        }
        self.x = x;
        y
    }

    /// dx = dy · weightᵀ. Leaves dweight = xᵀ · dy and dbias = Σ dy with the parameters.
    pub(crate) fn backward(&mut self, dy: &Array2<f32>) -> Array2<f32> {
        self.weight.gradient = self.x.t().dot(dy);
        if let Some(bias) = &mut self.bias {
            bias.gradient = dy.sum_axis(Axis(0));
        }
        dy.dot(&self.weight.value.t())
    }

    /// A step down the gradients of the last backward pass.
    pub(crate) fn step(&mut self, sgd: Sgd) {
        self.weight.step(sgd);
        if let Some(bias) = &mut self.bias {
            bias.step(sgd);
        }
    }
}
