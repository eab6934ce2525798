//! Inference without a batch norm. Expresses eval mode as one multiplication and one addition per channel, or folds
//! it into the weights of the preceding layer.

use crate::activation::Activation;
use crate::config::BatchNormConfig;
use crate::error::{Error, Result};
use crate::layer::BatchNorm;
use crate::state::BatchNormState;
use ndarray::{Array, Array1, ArrayView, ArrayView1, ArrayView2, ArrayViewMutD, Axis, Dimension, Ix2};

/// Eval mode as y = x · scale + shift, per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleAndShift {
    /// weight / sqrt(running_var + eps).
    pub scale: Array1<f32>,
    /// bias − running_mean · scale.
    pub shift: Array1<f32>,
}

/// Layout of a convolution's weight, by the options of PyTorch's `Conv1d/2d/3d` and `ConvTranspose1d/2d/3d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Whether the convolution is transposed: its weight is `[in, out / groups, …]`, not `[out, in / groups, …]`.
    pub transposed: bool,
    /// Number of channel groups.
    pub groups: usize,
}

impl Default for Convolution {
    /// Returns a convolution that is neither transposed nor grouped.
    fn default() -> Self {
        Self { transposed: false, groups: 1 }
    }
}

/// A layer's weight and bias with a batch norm's eval mode folded in. The bias is present even if the layer had none.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded<D: Dimension> {
    /// The layer's weight times `scale` of each output channel.
    pub weight: Array<f32, D>,
    /// (bias − running_mean) · scale + the batch norm's bias.
    pub bias: Array1<f32>,
}

/// A channel in f64, so that each folded number is rounded only once.
struct Channel {
    mean: f64,
    scale: f64,
    bias: f64,
}

impl BatchNormState {
    /// Returns eval mode as y = x · scale + shift, for engines with such an operation. Computes in f64 and rounds
    /// once. A layer without a weight folds as with a weight of 1, and one without a bias as with a bias of 0.
    ///
    /// **Not for large means.** If |mean| is much larger than the deviation, x · scale and shift are large and cancel.
    /// At mean 1e4 and deviation 1, half a unit in the last place of either is 5e-4 in y. [`BatchNorm`] subtracts the
    /// mean first, and loses nothing.
    ///
    /// # Errors
    /// - [`Error::NoRunningStatistics`] if the state has no running statistics.
    /// - [`Error::FoldedActivation`] if `config` has an activation, which is no part of a linear map.
    /// - As [`BatchNormConfig::validate`] and [`validate`](Self::validate).
    pub fn scale_and_shift(&self, config: &BatchNormConfig) -> Result<ScaleAndShift> {
        let channels = self.folded_channels(config)?;
        Ok(ScaleAndShift {
            scale: channels.iter().map(|channel| channel.scale as f32).collect(),
            shift: channels
                .iter()
                .map(|channel| (channel.bias - channel.mean * channel.scale) as f32)
                .collect(),
        })
    }

    /// Folds eval mode into the convolution before the batch norm, so that
    /// `conv(x, folded) = batch_norm(conv(x, weight) + bias)`. PyTorch's `fuse_conv_bn_eval` does the same. Computes in
    /// f64 and rounds each number of the result once.
    ///
    /// `weight` is `[out, in / groups, spatial…]`, or `[in, out / groups, spatial…]` for a transposed convolution.
    /// There, output channel j of group g is channel g · out / groups + j overall.
    ///
    /// # Errors
    /// - [`Error::NoRunningStatistics`] if the state has no running statistics.
    /// - [`Error::FoldedActivation`] if `config` has an activation, which is no part of a linear map.
    /// - [`Error::FoldedShape`] if weight or bias has another number of output channels, the groups do not divide the
    ///   channels, or `weight` has fewer than 2 dimensions.
    /// - As [`BatchNormConfig::validate`] and [`validate`](Self::validate).
    pub fn fold_into_conv<D: Dimension>(
        &self,
        config: &BatchNormConfig,
        weight: ArrayView<'_, f32, D>,
        bias: Option<ArrayView1<'_, f32>>,
        convolution: Convolution,
    ) -> Result<Folded<D>> {
        let channels = self.folded_channels(config)?;
        let Convolution { transposed, groups } = convolution;
        let outputs = channels.len();
        let expected = match (transposed, groups) {
            (_, 0) => "at least 1 group".to_owned(),
            (false, 1) => format!("[{outputs}, in, …]"),
            (false, _) => format!("[{outputs}, in / {groups}, …], of groups that divide both"),
            (true, _) => format!("[in, {outputs} / {groups}, …], of groups that divide both"),
        };
        let shape = weight.shape();
        let fits = groups > 0
            && outputs.is_multiple_of(groups)
            && shape.len() >= 2
            && if transposed {
                shape[0].is_multiple_of(groups) && shape[1] * groups == outputs
            } else {
                shape[0] == outputs
            };
        if !fits {
            return Err(Error::FoldedShape { name: "weight", shape: shape.to_vec(), expected });
        }
        let bias = folded_bias(&channels, bias)?;
        let mut weight = weight.to_owned();
        let mut parts = weight.view_mut().into_dyn();
        let fold = |mut part: ArrayViewMutD<'_, f32>, channel: &Channel| {
            part.mapv_inplace(|value| (f64::from(value) * channel.scale) as f32);
        };
        if transposed {
            let (inputs, outputs) = (parts.len_of(Axis(0)) / groups, parts.len_of(Axis(1)));
            for (input, mut of_input) in parts.outer_iter_mut().enumerate() {
                let of_group = &channels[input / inputs * outputs..];
                of_input.outer_iter_mut().zip(of_group).for_each(|(part, channel)| fold(part, channel));
            }
        } else {
            parts.outer_iter_mut().zip(&channels).for_each(|(part, channel)| fold(part, channel));
        }
        Ok(Folded { weight, bias })
    }

    /// Folds eval mode into the linear layer before the batch norm. `weight` is `[out, in]`, as in PyTorch's `Linear`
    /// and `fuse_linear_bn_eval`.
    ///
    /// # Errors
    /// As [`fold_into_conv`](Self::fold_into_conv).
    pub fn fold_into_linear(
        &self,
        config: &BatchNormConfig,
        weight: ArrayView2<'_, f32>,
        bias: Option<ArrayView1<'_, f32>>,
    ) -> Result<Folded<Ix2>> {
        self.fold_into_conv(config, weight, bias, Convolution::default())
    }

    fn folded_channels(&self, config: &BatchNormConfig) -> Result<Vec<Channel>> {
        config.validate()?;
        self.validate(config)?;
        if config.activation != Activation::Identity {
            return Err(Error::FoldedActivation { activation: config.activation });
        }
        let (Some(mean), Some(var)) = (&self.running_mean, &self.running_var) else {
            return Err(Error::NoRunningStatistics);
        };
        let of = |vector: &Option<Array1<f32>>, c: usize, without: f64| {
            vector.as_ref().map_or(without, |vector| f64::from(vector[c]))
        };
        let channel = |c| Channel {
            mean: f64::from(mean[c]),
            scale: of(&self.weight, c, 1.0) / (f64::from(var[c]) + config.eps).sqrt(),
            bias: of(&self.bias, c, 0.0),
        };
        Ok((0..config.num_features).map(channel).collect())
    }
}

fn folded_bias(channels: &[Channel], bias: Option<ArrayView1<'_, f32>>) -> Result<Array1<f32>> {
    if let Some(bias) = bias
        && bias.len() != channels.len()
    {
        let expected = format!("[{}]", channels.len());
        return Err(Error::FoldedShape { name: "bias", shape: bias.shape().to_vec(), expected });
    }
    let folded = channels.iter().enumerate().map(|(c, channel)| {
        let bias = bias.map_or(0.0, |bias| f64::from(bias[c]));
        ((bias - channel.mean) * channel.scale + channel.bias) as f32
    });
    Ok(folded.collect())
}

impl BatchNorm {
    /// Calls [`BatchNormState::scale_and_shift`] on the layer's current state.
    ///
    /// # Errors
    /// As that function, and [`Error::Readback`].
    pub fn scale_and_shift(&self) -> Result<ScaleAndShift> {
        self.state()?.scale_and_shift(self.config())
    }

    /// Calls [`BatchNormState::fold_into_conv`] on the layer's current state.
    ///
    /// ```no_run
    /// use wgpu_batchnorm::{BatchNorm, BatchNormConfig, Convolution, Gpu, ndarray::Array4};
    ///
    /// let bn = BatchNorm::new(&Gpu::new()?, BatchNormConfig::new(16))?;
    /// let weight = Array4::zeros((16, 3, 5, 5));                // of a convolution without bias
    /// let folded = bn.fold_into_conv(weight.view(), None, Convolution::default())?;
    /// assert_eq!(folded.weight.dim(), (16, 3, 5, 5));
    /// assert_eq!(folded.bias.len(), 16);
    /// # Ok::<(), wgpu_batchnorm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As that function, and [`Error::Readback`].
    pub fn fold_into_conv<D: Dimension>(
        &self,
        weight: ArrayView<'_, f32, D>,
        bias: Option<ArrayView1<'_, f32>>,
        convolution: Convolution,
    ) -> Result<Folded<D>> {
        self.state()?.fold_into_conv(self.config(), weight, bias, convolution)
    }

    /// Calls [`BatchNormState::fold_into_linear`] on the layer's current state.
    ///
    /// # Errors
    /// As that function, and [`Error::Readback`].
    pub fn fold_into_linear(
        &self,
        weight: ArrayView2<'_, f32>,
        bias: Option<ArrayView1<'_, f32>>,
    ) -> Result<Folded<Ix2>> {
        self.state()?.fold_into_linear(self.config(), weight, bias)
    }
}
