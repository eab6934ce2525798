//! Batch norm on the GPU as a layer of a network with its other layers on the CPU.

use super::Result;
use super::sgd::{Parameter, Sgd};
use ndarray::{Array, Array1, Dimension, Ix1};
use wgpu_batchnorm::{BatchNorm, BatchNormConfig, Gpu};

/// The layer, and its parameters on the CPU for SGD.
pub(crate) struct TrainableBatchNorm {
    /// The layer on the GPU.
    pub(crate) layer: BatchNorm,
    /// γ. Call [`upload`](Self::upload) after a change.
    pub(crate) weight: Parameter<Ix1>,
    /// β. Call [`upload`](Self::upload) after a change.
    pub(crate) bias: Parameter<Ix1>,
}

impl TrainableBatchNorm {
    /// Returns a new layer in training mode, with weight 1 and bias 0.
    pub(crate) fn new(gpu: &Gpu, num_features: usize) -> Result<Self> {
        Ok(Self {
            layer: BatchNorm::new(gpu, BatchNormConfig::new(num_features))?,
            weight: Parameter::new(Array1::ones(num_features)),
            bias: Parameter::new(Array1::zeros(num_features)),
        })
    }

    /// Returns y. The layer keeps x and the batch statistics for [`backward`](Self::backward).
    pub(crate) fn forward<D: Dimension>(&mut self, x: &Array<f32, D>) -> Result<Array<f32, D>> {
        Ok(self.layer.forward_array(x.view())?)
    }

    /// Returns dx. Stores dweight and dbias with the parameters.
    pub(crate) fn backward<D: Dimension>(&mut self, dy: &Array<f32, D>) -> Result<Array<f32, D>> {
        let gradients = self.layer.backward_array(dy.view())?;
        // A layer with affine parameters has both.
        if let (Some(dweight), Some(dbias)) = (gradients.weight, gradients.bias) {
            (self.weight.gradient, self.bias.gradient) = (dweight, dbias);
        }
        Ok(gradients.input)
    }

    /// Takes a step down the gradients of the last backward pass.
    pub(crate) fn step(&mut self, sgd: Sgd) -> Result<()> {
        self.weight.step(sgd);
        self.bias.step(sgd);
        self.upload()
    }

    /// Uploads weight and bias. The running statistics on the GPU stay unchanged.
    pub(crate) fn upload(&mut self) -> Result<()> {
        self.layer.set_weight(self.weight.value.view())?;
        Ok(self.layer.set_bias(self.bias.value.view())?)
    }
}
