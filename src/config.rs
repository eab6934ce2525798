//! Options of a batch-norm layer. The GPU layer and the CPU reference share them.

use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::mode::Mode;
use crate::shape::Problem;
use crate::text::python_float;
use std::fmt;

/// Options of PyTorch's `BatchNorm1d/2d/3d` with PyTorch's names and defaults, plus `layout`, `activation`
/// and `skip_non_finite`.
///
/// | option | default | meaning |
/// |---|---|---|
/// | `num_features` | – | number of channels C |
/// | `eps` | `1e-5` | added to the variance inside the square root |
/// | `momentum` | `Some(0.1)` | weight of the *batch* in the running average; `None`: cumulative average |
/// | `weight` | `true` | learnable scale γ; without it, γ = 1 |
/// | `bias` | `true` | learnable shift β; without it, β = 0 |
/// | `track_running_stats` | `true` | keep running statistics and use them in eval |
/// | `layout` | channels first | position of the channel axis in `ndarray` inputs |
/// | `activation` | identity | function applied to the normalised input, in the same pass |
/// | `skip_non_finite` | `false` | keep a channel's running statistics if its batch statistics are not finite |
///
/// [`affine`](Self::affine) sets `weight` and `bias` together, as PyTorch's option does. PyTorch's `bias=False` is
/// `bias`, and Keras' `scale=False` and `center=False` are `weight` and `bias`.
///
/// The `momentum` of ONNX, Keras and Flax is `1 − momentum` here.
///
/// ```
/// use wgpu_batchnorm::{BatchNormConfig, Layout};
///
/// let config = BatchNormConfig::new(64).eps(1e-3).momentum(None).layout(Layout::ChannelsLast);
/// assert_eq!(config.num_features, 64);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BatchNormConfig {
    /// Number of channels C, at least 1.
    pub num_features: usize,
    /// ε in `1 / sqrt(var + eps)`: a finite number. Batch statistics need at least 1.2e-38, the smallest normal f32,
    /// since a constant channel has variance 0. As in PyTorch, running statistics allow 0.
    pub eps: f64,
    /// Weight m of the batch in `running = (1 − m)·running + m·batch`: any finite number. `None` is the cumulative
    /// average, m = 1 / `num_batches_tracked` (after this batch was counted).
    pub momentum: Option<f64>,
    /// Whether the layer has a `weight`. Without it, γ is 1, and there is no dweight.
    pub weight: bool,
    /// Whether the layer has a `bias`. Without it, β is 0, and there is no dbias.
    pub bias: bool,
    /// Whether the layer keeps running statistics. Without them, eval uses batch statistics.
    pub track_running_stats: bool,
    /// Position of the channel axis in `ndarray` inputs. A [`Tensor`](crate::Tensor) carries its own layout.
    pub layout: Layout,
    /// Function applied to the normalised input. PyTorch has a separate module for it.
    pub activation: Activation,
    /// If true, a channel keeps its running statistics when its batch mean or variance is not finite. PyTorch has no
    /// such option: its running statistics become NaN or infinite.
    pub skip_non_finite: bool,
}

impl fmt::Display for BatchNormConfig {
    /// Writes what PyTorch prints of its module, without the number of dimensions, and what PyTorch lacks behind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_bool = |value: bool| if value { "True" } else { "False" };
        let momentum = self.momentum.map_or_else(|| "None".to_owned(), python_float);
        write!(f, "BatchNorm({}, eps={}, momentum={momentum}, ", self.num_features, python_float(self.eps))?;
        match (self.weight, self.bias) {
            (true, false) => f.write_str("affine=True, bias=False")?,
            (false, true) => f.write_str("weight=False, bias=True")?,
            (affine, _) => write!(f, "affine={}", of_bool(affine))?,
        }
        write!(f, ", track_running_stats={}", of_bool(self.track_running_stats))?;
        if self.activation != Activation::Identity {
            write!(f, ", activation={}", self.activation)?;
        }
        if self.layout == Layout::ChannelsLast {
            write!(f, ", layout={}", self.layout)?;
        }
        if self.skip_non_finite {
            f.write_str(", skip_non_finite=True")?;
        }
        f.write_str(")")
    }
}

impl BatchNormConfig {
    /// Returns PyTorch's defaults for `num_features` channels.
    pub fn new(num_features: usize) -> Self {
        Self {
            num_features,
            eps: 1e-5,
            momentum: Some(0.1),
            weight: true,
            bias: true,
            track_running_stats: true,
            layout: Layout::ChannelsFirst,
            activation: Activation::Identity,
            skip_non_finite: false,
        }
    }

    /// Sets [`eps`](Self::eps).
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets [`momentum`](Self::momentum): a number, or `None` for the cumulative average.
    #[must_use]
    pub fn momentum(mut self, momentum: impl Into<Option<f64>>) -> Self {
        self.momentum = momentum.into();
        self
    }

    /// Sets [`weight`](Self::weight) and [`bias`](Self::bias), as PyTorch's `affine` does. Without them, y = `x_hat`,
    /// before any sum and activation.
    #[must_use]
    pub fn affine(self, affine: bool) -> Self {
        self.weight(affine).bias(affine)
    }

    /// Sets [`weight`](Self::weight).
    #[must_use]
    pub fn weight(mut self, weight: bool) -> Self {
        self.weight = weight;
        self
    }

    /// Sets [`bias`](Self::bias).
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Sets [`track_running_stats`](Self::track_running_stats).
    #[must_use]
    pub fn track_running_stats(mut self, track: bool) -> Self {
        self.track_running_stats = track;
        self
    }

    /// Sets [`layout`](Self::layout).
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Sets [`activation`](Self::activation).
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Sets [`skip_non_finite`](Self::skip_non_finite).
    #[must_use]
    pub fn skip_non_finite(mut self, skip: bool) -> Self {
        self.skip_non_finite = skip;
        self
    }

    /// Returns whether a forward pass in this mode normalises with batch statistics: in training, and in eval without
    /// running statistics.
    pub fn uses_batch_statistics(&self, mode: Mode) -> bool {
        mode.is_training() || !self.track_running_stats
    }

    /// Checks every option.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] names the option, its value and the allowed values.
    pub fn validate(&self) -> Result<()> {
        let invalid = |option, value: String, allowed| Err(Error::InvalidConfig { option, value, allowed });
        if self.num_features == 0 || u32::try_from(self.num_features).is_err() {
            return invalid("num_features", self.num_features.to_string(), "1 to 4294967295");
        }
        if !(self.eps as f32).is_finite() || self.eps < 0.0 {
            return invalid("eps", self.eps.to_string(), "a finite number, at least 0");
        }
        if let Some(momentum) = self.momentum
            && !(momentum as f32).is_finite()
        {
            return invalid(
                "momentum",
                momentum.to_string(),
                "a finite number, or none for the cumulative average",
            );
        }
        if !(self.activation.slope() as f32).is_finite() {
            return invalid("activation", self.activation.to_string(), "a finite slope");
        }
        Ok(())
    }

    /// Checks an input's shape against the layer, and returns it as `[outer, channels, inner]`.
    ///
    /// # Errors
    /// - [`Error::Rank`], [`Error::NoChannels`], [`Error::TooManyElements`] from [`Problem::new`].
    /// - [`Error::Channels`] if the input does not have `num_features` channels.
    /// - With batch statistics: [`Error::OneValuePerChannel`], and [`Error::InvalidConfig`] if `eps` is 0 or subnormal
    ///   in f32.
    pub fn problem(&self, shape: &[usize], layout: Layout, mode: Mode) -> Result<Problem> {
        let problem = Problem::new(shape, layout)?;
        if problem.channels != self.num_features {
            return Err(Error::Channels {
                num_features: self.num_features,
                channels: problem.channels,
                axis: layout.channel_axis(shape.len()),
                shape: shape.to_vec(),
            });
        }
        if self.uses_batch_statistics(mode) {
            if problem.values_per_channel() == 1 {
                return Err(Error::OneValuePerChannel { shape: shape.to_vec() });
            }
            if !(self.eps as f32).is_normal() {
                return Err(Error::InvalidConfig {
                    option: "eps",
                    value: self.eps.to_string(),
                    allowed: "at least 1.2e-38 where batch statistics are used",
                });
            }
        }
        Ok(problem)
    }
}
