//! Parameters and running statistics of a layer, as tensors.

use crate::config::BatchNormConfig;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::layer::{ArrayGradients, BatchNorm};
use crate::tensor::Tensor;
use ndarray::{Array1, ArrayView1, Dimension};

/// Parameters and running statistics on the GPU: f32, one number for each channel. Clones are handles to the same
/// tensors.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LayerTensors {
    /// γ. `None` without a weight.
    pub weight: Option<Tensor>,
    /// β. `None` without a bias.
    pub bias: Option<Tensor>,
    /// The running mean. `None` if none is tracked.
    pub running_mean: Option<Tensor>,
    /// The running variance (unbiased). `None` if none is tracked.
    pub running_var: Option<Tensor>,
}

impl LayerTensors {
    /// Returns no tensors, as a start for setting some.
    pub fn new() -> Self {
        Self::default()
    }

    tensor_setters! {
        /// Sets γ; `None` removes it.
        weight;
        /// Sets β; `None` removes it.
        bias;
        /// Sets the running mean; `None` removes it.
        running_mean;
        /// Sets the running variance; `None` removes it.
        running_var;
    }

    /// Checks that exactly the tensors of `config` are there, and that a layer can bind each.
    fn check(&self, gpu: &Gpu, config: &BatchNormConfig) -> Result<()> {
        let (tracks, num_features) = (config.track_running_stats, config.num_features);
        let alignment = u64::from(gpu.profile().limits.min_storage_buffer_offset_alignment);
        for (name, tensor, expected) in [
            ("weight", &self.weight, config.weight),
            ("bias", &self.bias, config.bias),
            ("running_mean", &self.running_mean, tracks),
            ("running_var", &self.running_var, tracks),
        ] {
            if tensor.is_some() != expected {
                return Err(Error::StateMismatch { name, expected });
            }
            let Some(tensor) = tensor else { continue };
            tensor.check_device(gpu, name)?;
            tensor.check_type::<f32>(name)?;
            let length = tensor.shape().iter().product();
            if length != num_features {
                return Err(Error::ParameterLength { name, length, num_features });
            }
            if !tensor.offset().is_multiple_of(alignment) {
                return Err(Error::Misaligned { name, offset: tensor.offset(), alignment });
            }
        }
        Ok(())
    }
}

impl BatchNorm {
    /// Creates a layer in training mode over the caller's own tensors, as of an optimiser that keeps all parameters in its
    /// memory. Their contents stay as they are; passes in training move the running statistics there. No batches were
    /// tracked yet.
    ///
    /// # Errors
    /// [`Error::StateMismatch`] unless exactly the tensors of `config` are there; [`Error::ParameterLength`],
    /// [`Error::ElementType`], [`Error::ForeignDevice`], and [`Error::Misaligned`] unless each begins at a multiple of the
    /// device's `min_storage_buffer_offset_alignment`. As [`new`](Self::new).
    pub fn with_tensors(gpu: &Gpu, config: BatchNormConfig, tensors: &LayerTensors) -> Result<Self> {
        gpu.check_alive()?;
        config.validate()?;
        tensors.check(gpu, &config)?;
        Self::over(gpu, config, tensors.clone())
    }

    /// Returns γ on the GPU; `None` without a weight. An optimiser may write to it ([`Tensor::write_array`]).
    pub fn weight(&self) -> Option<&Tensor> {
        self.tensors.weight.as_ref()
    }

    /// Returns β on the GPU; `None` without a bias. An optimiser may write to it ([`Tensor::write_array`]).
    pub fn bias(&self) -> Option<&Tensor> {
        self.tensors.bias.as_ref()
    }

    /// Returns the running mean on the GPU.
    pub fn running_mean(&self) -> Option<&Tensor> {
        self.tensors.running_mean.as_ref()
    }

    /// Returns the running variance (unbiased) on the GPU.
    pub fn running_var(&self) -> Option<&Tensor> {
        self.tensors.running_var.as_ref()
    }

    /// Replaces γ. The order of calls is that of the GPU: passes before keep the old values.
    ///
    /// # Errors
    /// [`Error::StateMismatch`] without a weight; [`Error::ParameterLength`] unless there is one value for each channel;
    /// [`Error::Gpu`].
    pub fn set_weight(&mut self, weight: ArrayView1<'_, f32>) -> Result<()> {
        self.set_parameter("weight", self.weight(), weight)
    }

    /// Replaces β, as [`set_weight`](Self::set_weight) does γ.
    ///
    /// # Errors
    /// As [`set_weight`](Self::set_weight).
    pub fn set_bias(&mut self, bias: ArrayView1<'_, f32>) -> Result<()> {
        self.set_parameter("bias", self.bias(), bias)
    }

    fn set_parameter(
        &self,
        name: &'static str,
        tensor: Option<&Tensor>,
        values: ArrayView1<'_, f32>,
    ) -> Result<()> {
        let tensor = tensor.ok_or(Error::StateMismatch { name, expected: false })?;
        let (length, num_features) = (values.len(), self.config.num_features);
        if length != num_features {
            return Err(Error::ParameterLength { name, length, num_features });
        }
        tensor.write_array(values)
    }

    /// Takes a step of an optimiser that computes on the CPU. Reads the parameters back, calls `step` with the name, the
    /// values and the gradient of each that has a gradient (`weight`, then `bias`), and writes the values back. The
    /// running statistics stay as they are.
    ///
    /// ```
    /// # use wgpu_batchnorm::{BatchNorm, BatchNormConfig, Gpu, ndarray::array};
    /// # let mut bn = BatchNorm::new(&Gpu::new()?, BatchNormConfig::new(2))?;
    /// let y = bn.forward_array(array![[1.0f32, 10.0], [2.0, 20.0]].view())?;
    /// let gradients = bn.backward_array(y.view())?;               // of the loss Σ y² / 2
    /// bn.update_parameters(&gradients, |_, value, gradient| value.scaled_add(-0.1, gradient))?;
    /// # let weight = bn.state()?.weight.unwrap();
    /// # assert!((weight[0] - 0.8).abs() < 1e-4 && (weight[1] - 0.8).abs() < 1e-4, "{weight}");
    /// # Ok::<(), wgpu_batchnorm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ParameterLength`] unless each gradient has one value for each channel, before the first step;
    /// [`Error::Readback`], [`Error::Gpu`].
    pub fn update_parameters<D: Dimension, T>(
        &mut self,
        gradients: &ArrayGradients<D, T>,
        mut step: impl FnMut(&'static str, &mut Array1<f32>, &Array1<f32>),
    ) -> Result<()> {
        let num_features = self.config.num_features;
        for (name, gradient) in [("dweight", &gradients.weight), ("dbias", &gradients.bias)] {
            if let Some(length) = gradient.as_ref().map(Array1::len).filter(|&length| length != num_features)
            {
                return Err(Error::ParameterLength { name, length, num_features });
            }
        }
        let state = self.state()?;
        if let (Some(mut weight), Some(gradient)) = (state.weight, &gradients.weight) {
            step("weight", &mut weight, gradient);
            self.set_weight(weight.view())?;
        }
        if let (Some(mut bias), Some(gradient)) = (state.bias, &gradients.bias) {
            step("bias", &mut bias, gradient);
            self.set_bias(bias.view())?;
        }
        Ok(())
    }

    /// Returns the learnable parameters by name: `weight` and `bias`, of which the layer may lack either. Each has a
    /// gradient of the same name in [`Gradients::parameters`](crate::Gradients::parameters).
    pub fn parameters(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        [("weight", self.weight()), ("bias", self.bias())]
            .into_iter()
            .filter_map(|(name, tensor)| Some((name, tensor?)))
    }

    /// Returns how many numbers the learnable parameters have: 2 · C with weight and bias.
    pub fn num_parameters(&self) -> usize {
        self.parameters().count() * self.config.num_features
    }
}
