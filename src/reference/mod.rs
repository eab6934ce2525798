//! The CPU reference: batch normalization in `f64`, written to be obviously right.
//!
//! It takes one channel at a time from the tensor (`index_axis`) and makes two passes over it, one for the mean and
//! one for the variance. It follows the formulas of the paper (Ioffe & Szegedy 2015,
//! [arXiv 1502.03167](https://arxiv.org/abs/1502.03167), algorithm 1 and section 3) with the semantics of PyTorch's
//! `BatchNorm1d/2d/3d`. It shares no method with the GPU kernels: no flat indices, no partial sums, no pivots. The
//! kernels are checked against it. It also serves to compute without a GPU.
//!
//! A layer keeps its running statistics, and what it gives to an activation, in f32. The reference keeps them in f64,
//! but it goes on as a layer would: from infinity, where they are beyond f32's range. Results themselves may be beyond
//! it. So may the variance of a batch, which the kernels keep with more bits of exponent: where PyTorch's y is the
//! bias, y is right here.
//!
//! ```
//! use wgpu_batchnorm::{BatchNormConfig, ndarray::array, reference::BatchNorm};
//!
//! let mut layer = BatchNorm::new(BatchNormConfig::new(1))?;
//! let y = layer.forward(array![[-1.0], [1.0]].view())?;
//! assert!((y[[1, 0]] - 1.0).abs() < 1e-5); // 1 / sqrt(1 + eps)
//! # Ok::<(), wgpu_batchnorm::Error>(())
//! ```

use crate::config::BatchNormConfig;
use crate::error::{Error, Result};
use crate::state::BatchNormState;
use ndarray::{Array, Array1, ArrayD, ArrayView, ArrayViewD, Axis, Dimension, Zip};

/// A batch-norm layer on the CPU, in `f64`.
///
/// Each channel uses mean and var of the batch (in training, or without running statistics), or the running mean and
/// var (in eval):
///
/// ```text
/// inv_std = 1 / sqrt(var + eps)
/// x_hat   = (x − mean) · inv_std
/// y       = activation(x_hat · weight + bias)
/// ```
///
/// If var is a running variance of 0 or less, var + eps is the sum of two f32 numbers, rounded to f32: most digits may
/// cancel.
///
/// A new layer is in training mode.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    config: BatchNormConfig,
    training: bool,
    weight: Option<Array1<f64>>,
    bias: Option<Array1<f64>>,
    running: Option<Running>,
    saved: Option<Saved>,
}

/// Running statistics.
#[derive(Clone, Debug)]
struct Running {
    statistics: Statistics,
    num_batches_tracked: u64,
}

/// One mean and one variance per channel.
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    pub(crate) mean: Array1<f64>,
    pub(crate) var: Array1<f64>,
}

/// What a forward pass normalises each channel with.
#[derive(Clone, Debug)]
pub(crate) struct Factors {
    mean: Array1<f64>,
    pub(crate) inv_std: Array1<f64>,
    /// Whether mean and var were batch statistics, so that they depend on x.
    used_batch_statistics: bool,
    /// Batch statistics. `None` if running statistics were used or the batch was empty.
    pub(crate) batch: Option<Statistics>,
}

/// Results of a forward pass that backward needs.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub(crate) x_hat: ArrayD<f64>,
    /// x − mean. Only kept where an inv_std is infinite: x_hat does not tell it then.
    deviation: Option<ArrayD<f64>>,
    /// Input of the activation. `is_sum` tells whether it includes the residual.
    pub(crate) activated: ArrayD<f64>,
    pub(crate) is_sum: bool,
    pub(crate) factors: Factors,
}

/// The sums of a backward pass, one per channel.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    /// Σ dy·x_hat. Where inv_std is infinite, Σ dy·(x − mean) until the sums are complete.
    pub(crate) dweight: Array1<f64>,
    /// Σ dy
    pub(crate) dbias: Array1<f64>,
}

/// Gradients of a loss with respect to the input, the weight, the bias and the residual.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<D: Dimension> {
    /// Gradient with respect to x, of the shape of x.
    pub dx: Array<f64, D>,
    /// Gradient with respect to the weight, `[C]`: Σ dy·x_hat. `None` without a weight.
    pub dweight: Option<Array1<f64>>,
    /// Gradient with respect to the bias, `[C]`: Σ dy. `None` without a bias.
    pub dbias: Option<Array1<f64>>,
    /// Gradient with respect to the residual, of the shape of x. `None` unless a residual was added.
    pub dresidual: Option<Array<f64, D>>,
}

impl Sums {
    /// Completes the sums over a whole batch.
    pub(crate) fn complete(mut self, factors: &Factors) -> Self {
        for (dweight, &inv_std) in self.dweight.iter_mut().zip(&factors.inv_std) {
            if inv_std.is_infinite() {
                *dweight *= inv_std;
            }
        }
        self
    }
}

impl BatchNorm {
    /// Creates a layer in training mode: weight 1, bias 0, running mean 0, running variance 1.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if an option is out of range.
    pub fn new(config: BatchNormConfig) -> Result<Self> {
        config.validate()?;
        let state = BatchNormState::new(&config);
        Self::with_state(config, &state)
    }

    /// Creates a layer in training mode with these parameters and running statistics.
    ///
    /// # Errors
    /// - [`Error::InvalidConfig`] if an option is out of range.
    /// - [`Error::StateMismatch`] and [`Error::ParameterLength`] if the state does not fit the configuration.
    pub fn with_state(config: BatchNormConfig, state: &BatchNormState) -> Result<Self> {
        config.validate()?;
        state.validate(&config)?;
        let exact = |vector: &Array1<f32>| vector.mapv(f64::from);
        let [weight, bias] = [&state.weight, &state.bias].map(|vector| vector.as_ref().map(exact));
        let running = match (&state.running_mean, &state.running_var, state.num_batches_tracked) {
            (Some(mean), Some(var), Some(num_batches_tracked)) => Some(Running {
                statistics: Statistics { mean: exact(mean), var: exact(var) },
                num_batches_tracked,
            }),
            _ => None,
        };
        Ok(Self { config, training: true, weight, bias, running, saved: None })
    }

    /// Returns the options of the layer.
    pub fn config(&self) -> &BatchNormConfig {
        &self.config
    }

    /// Switches to training mode: uses batch statistics, and updates the running statistics.
    pub fn train(&mut self) {
        self.training = true;
    }

    /// Switches to eval mode: uses running statistics if the layer has them, and updates nothing.
    pub fn eval(&mut self) {
        self.training = false;
    }

    /// Returns whether the layer is in training mode.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// Returns γ, `[C]`; `None` without a weight.
    pub fn weight(&self) -> Option<&Array1<f64>> {
        self.weight.as_ref()
    }

    /// Returns β, `[C]`; `None` without a bias.
    pub fn bias(&self) -> Option<&Array1<f64>> {
        self.bias.as_ref()
    }

    /// Returns the running average of the batch mean, `[C]`; `None` without running statistics.
    pub fn running_mean(&self) -> Option<&Array1<f64>> {
        self.running.as_ref().map(|running| &running.statistics.mean)
    }

    /// Returns the running average of the unbiased batch variance, `[C]`; `None` without running statistics.
    pub fn running_var(&self) -> Option<&Array1<f64>> {
        self.running.as_ref().map(|running| &running.statistics.var)
    }

    /// Returns the number of training batches seen; `None` without running statistics.
    pub fn num_batches_tracked(&self) -> Option<u64> {
        self.running.as_ref().map(|running| running.num_batches_tracked)
    }

    /// Returns the batch mean of the last forward pass, `[C]`: Σx / n. `None` before the first forward pass, after a
    /// pass with running statistics, and after an empty batch.
    pub fn batch_mean(&self) -> Option<&Array1<f64>> {
        self.saved.as_ref()?.factors.batch.as_ref().map(|batch| &batch.mean)
    }

    /// Returns the biased batch variance of the last forward pass, `[C]`: Σ(x − mean)² / n. `None` if
    /// [`batch_mean`](Self::batch_mean) is.
    pub fn batch_var(&self) -> Option<&Array1<f64>> {
        self.saved.as_ref()?.factors.batch.as_ref().map(|batch| &batch.var)
    }

    /// Returns x_hat of the last forward pass, of the shape of x. `None` before the first forward pass.
    pub fn x_hat(&self) -> Option<&ArrayD<f64>> {
        self.saved.as_ref().map(|saved| &saved.x_hat)
    }

    /// Returns the activation's input in the last forward pass, of the shape of x. `None` before the first forward
    /// pass.
    pub fn before_activation(&self) -> Option<&ArrayD<f64>> {
        self.saved.as_ref().map(|saved| &saved.activated)
    }

    /// Returns 1 / sqrt(var + eps) of the last forward pass, `[C]`. `None` before the first forward pass.
    pub fn inv_std(&self) -> Option<&Array1<f64>> {
        self.saved.as_ref().map(|saved| &saved.factors.inv_std)
    }

    /// Normalises `x`, of shape `[N, C, spatial…]` or `[N, spatial…, C]` (the configuration's layout). y has the same
    /// shape. In training, updates the running statistics:
    ///
    /// ```text
    /// num_batches_tracked += 1
    /// m            = momentum, or 1 / num_batches_tracked when it is None
    /// running_mean = (1 − m)·running_mean + m·mean
    /// running_var  = (1 − m)·running_var  + m·var·n/(n − 1)
    /// ```
    ///
    /// An empty batch gives an empty result. In training, it is counted, and the running mean and variance stay
    /// unchanged.
    ///
    /// # Errors
    /// As [`BatchNormConfig::problem`]. The layer is unchanged then.
    pub fn forward<D: Dimension>(&mut self, x: ArrayView<'_, f64, D>) -> Result<Array<f64, D>> {
        self.normalize(x, None)
    }

    /// Does the same as [`forward`](Self::forward), and adds `residual`, of the shape of x, before the activation.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and [`Error::ShapeMismatch`] if `residual` has another shape than `x`.
    pub fn forward_add<D: Dimension>(
        &mut self,
        x: ArrayView<'_, f64, D>,
        residual: ArrayView<'_, f64, D>,
    ) -> Result<Array<f64, D>> {
        self.check_shape("residual", residual.shape(), x.shape())?;
        self.normalize(x, Some(residual))
    }

    fn normalize<D: Dimension>(
        &mut self,
        x: ArrayView<'_, f64, D>,
        residual: Option<ArrayView<'_, f64, D>>,
    ) -> Result<Array<f64, D>> {
        let problem = self.config.problem(x.shape(), self.config.layout, self.training.into())?;
        let axis = Axis(self.config.layout.channel_axis(x.ndim()));
        let n = problem.values_per_channel();
        let batch = (self.config.uses_batch_statistics(self.training.into()) && n > 0)
            .then(|| batch_statistics(x.view().into_dyn(), axis, problem.channels));
        let factors = self.begin(batch, n);
        let (y, saved) = self.apply(factors, x, residual);
        self.saved = Some(saved);
        Ok(y)
    }

    /// Begins a forward pass: updates the running statistics in training, and returns what to normalise with. `batch`
    /// has the statistics of the batch, unless running statistics are used or the batch is empty.
    pub(crate) fn begin(&mut self, batch: Option<Statistics>, n: usize) -> Factors {
        let used_batch_statistics = self.config.uses_batch_statistics(self.training.into());
        if self.training {
            self.track(batch.as_ref(), n as f64);
        }
        let channels = self.config.num_features;
        let statistics = match (&batch, &self.running) {
            (Some(batch), _) => batch.clone(),
            (None, Some(running)) => running.statistics.clone(),
            // An empty batch without running statistics. No element uses these values.
            (None, None) => Statistics { mean: Array1::zeros(channels), var: Array1::ones(channels) },
        };
        let eps = self.config.eps;
        let inv_std = statistics.var.mapv(|var| {
            let sum = if used_batch_statistics || var > 0.0 {
                var + eps
            } else {
                f64::from(var as f32 + eps as f32)
            };
            1.0 / sum.sqrt()
        });
        Factors { mean: statistics.mean, inv_std, used_batch_statistics, batch }
    }

    /// Normalises each element of x, or of a part of x, by itself. Returns y, and what backward needs.
    pub(crate) fn apply<D: Dimension>(
        &self,
        factors: Factors,
        x: ArrayView<'_, f64, D>,
        residual: Option<ArrayView<'_, f64, D>>,
    ) -> (Array<f64, D>, Saved) {
        let Factors { mean, inv_std, .. } = &factors;
        let axis = self.config.layout.channel_axis(x.ndim());
        let mut x_hat = x.to_owned();
        for (c, mut channel) in x_hat.view_mut().into_dyn().axis_iter_mut(Axis(axis)).enumerate() {
            channel.mapv_inplace(|x| x - mean[c]);
        }
        let deviation = inv_std.iter().any(|inv_std| inv_std.is_infinite()).then(|| x_hat.clone().into_dyn());
        for (c, mut channel) in x_hat.view_mut().into_dyn().axis_iter_mut(Axis(axis)).enumerate() {
            channel.mapv_inplace(|deviation| deviation * inv_std[c]);
        }
        let mut y = x_hat.clone();
        for (c, mut channel) in y.view_mut().into_dyn().axis_iter_mut(Axis(axis)).enumerate() {
            if let Some(weight) = &self.weight {
                channel.mapv_inplace(|x_hat| x_hat * weight[c]);
            }
            if let Some(bias) = &self.bias {
                channel.mapv_inplace(|scaled| scaled + bias[c]);
            }
        }
        let is_sum = residual.is_some();
        if let Some(residual) = residual {
            y.zip_mut_with(&residual, |y, residual| *y = after_f32(*y, |y| y + residual));
        }
        let activated = y.clone().into_dyn();
        let activation = self.config.activation;
        let y = y.mapv_into(|u| after_f32(u, |u| activation.value(u)));
        (y, Saved { x_hat: x_hat.into_dyn(), deviation, activated, is_sum, factors })
    }

    fn check_shape(&self, name: &'static str, shape: &[usize], expected: &[usize]) -> Result<()> {
        if shape == expected {
            return Ok(());
        }
        let (expected, shape, layout) = (expected.to_vec(), shape.to_vec(), self.config.layout);
        Err(Error::ShapeMismatch { name, expected, expected_layout: layout, shape, layout })
    }

    /// Counts a training batch, and updates the running mean and variance unless the batch was empty.
    fn track(&mut self, batch: Option<&Statistics>, n: f64) {
        let Some(Running { statistics: running, num_batches_tracked }) = &mut self.running else { return };
        *num_batches_tracked += 1;
        let Some(batch) = batch else { return };
        let m = self.config.momentum.unwrap_or(1.0 / *num_batches_tracked as f64);
        for (c, (&mean, &var)) in batch.mean.iter().zip(&batch.var).enumerate() {
            let unbiased_var = var * n / (n - 1.0);
            if self.config.skip_non_finite && !(mean.is_finite() && within_f32(unbiased_var).is_finite()) {
                continue;
            }
            running.mean[c] = (1.0 - m) * within_f32(running.mean[c]) + m * mean;
            running.var[c] = (1.0 - m) * within_f32(running.var[c]) + m * unbiased_var;
        }
    }

    /// Returns the gradients of a loss, given its gradient `dy` with respect to the output of the last forward pass.
    ///
    /// ```text
    /// dweight = Σ dy·x_hat        dbias = Σ dy
    /// dx = weight·inv_std·(dy − Σdy/n − x_hat·Σ(dy·x_hat)/n)    after batch statistics
    /// dx = weight·inv_std·dy                                    after running statistics
    /// ```
    ///
    /// If inv_std is infinite, dweight is inv_std·Σ dy·(x − mean).
    ///
    /// With an activation, dy is first multiplied by the activation's derivative. The product is also dresidual. After
    /// batch statistics, the gradient also flows through mean and variance (the paper's section 3, simplified). The
    /// function may be called more than once after one forward pass.
    ///
    /// # Errors
    /// - [`Error::NoForward`] before the first forward pass.
    /// - [`Error::ShapeMismatch`] if `dy` has another shape than the input of that pass.
    pub fn backward<D: Dimension>(&self, dy: ArrayView<'_, f64, D>) -> Result<Gradients<D>> {
        let saved = self.saved()?;
        self.check_shape("dy", dy.shape(), saved.x_hat.shape())?;
        let dresidual = self.before_activation_gradient(saved, dy);
        let n = dresidual.len() / self.config.num_features;
        let sums = self.sums(saved, dresidual.view().into_dyn()).complete(&saved.factors);
        let dx = self.input_gradient(saved, &sums, n, dresidual.view());
        let dresidual = saved.is_sum.then_some(dresidual);
        let dweight = self.weight.is_some().then_some(sums.dweight);
        let dbias = self.bias.is_some().then_some(sums.dbias);
        Ok(Gradients { dx, dweight, dbias, dresidual })
    }

    /// Returns the results of the last forward pass that backward needs.
    pub(crate) fn saved(&self) -> Result<&Saved> {
        self.saved.as_ref().ok_or(Error::NoForward)
    }

    /// Returns the gradient with respect to the activation's input, for all of a batch or a part of it.
    pub(crate) fn before_activation_gradient<D: Dimension>(
        &self,
        saved: &Saved,
        dy: ArrayView<'_, f64, D>,
    ) -> Array<f64, D> {
        let activation = self.config.activation;
        let mut dresidual = dy.to_owned();
        Zip::from(dresidual.view_mut().into_dyn())
            .and(&saved.activated)
            .for_each(|dy, &u| *dy = activation.backward(*dy, within_f32(u)));
        dresidual
    }

    /// Returns the sums of the backward pass over all of a batch or a part of it, not yet complete. `dresidual` is the
    /// gradient with respect to the activation's input.
    pub(crate) fn sums(&self, saved: &Saved, dresidual: ArrayViewD<'_, f64>) -> Sums {
        let axis = Axis(self.config.layout.channel_axis(dresidual.ndim()));
        let inv_std = &saved.factors.inv_std;
        let mut dweight = Array1::zeros(self.config.num_features);
        let mut dbias = Array1::zeros(self.config.num_features);
        for (c, channel) in dresidual.axis_iter(axis).enumerate() {
            let x_hat = saved.x_hat.index_axis(axis, c);
            dweight[c] = match &saved.deviation {
                // Σ dy·x_hat may be the difference of infinities.
                Some(deviation) if inv_std[c].is_infinite() => {
                    (&channel * &deviation.index_axis(axis, c)).sum()
                }
                _ => (&channel * &x_hat).sum(),
            };
            dbias[c] = channel.sum();
        }
        Sums { dweight, dbias }
    }

    /// Returns the gradient with respect to x, or to a part of it. `sums` are those over all `n` values of a channel.
    pub(crate) fn input_gradient<D: Dimension>(
        &self,
        saved: &Saved,
        sums: &Sums,
        n: usize,
        dresidual: ArrayView<'_, f64, D>,
    ) -> Array<f64, D> {
        let axis = Axis(self.config.layout.channel_axis(dresidual.ndim()));
        let mut dx = dresidual.to_owned();
        for (c, mut channel) in dx.view_mut().into_dyn().axis_iter_mut(axis).enumerate() {
            if saved.factors.used_batch_statistics {
                let n = n as f64;
                let (mean_dy, mean_dy_x_hat) = (sums.dbias[c] / n, sums.dweight[c] / n);
                Zip::from(&mut channel)
                    .and(&saved.x_hat.index_axis(axis, c))
                    .for_each(|dy, &x_hat| *dy = *dy - mean_dy - x_hat * mean_dy_x_hat);
            }
            let weight = self.weight.as_ref().map_or(1.0, |weight| weight[c]);
            channel.mapv_inplace(|d| d * weight * saved.factors.inv_std[c]);
        }
        dx
    }
}

/// Returns the value, or infinity with its sign if f32 rounds it to infinity.
pub(crate) fn within_f32(value: f64) -> f64 {
    let rounded = f64::from(value as f32);
    if rounded.is_infinite() { rounded } else { value }
}

/// Returns f(value), for a value that f32 holds before f is applied. If the result is beyond f32's range as well, it is
/// that of the value in f64: a finite number, which tells how far beyond.
fn after_f32(value: f64, f: impl Fn(f64) -> f64) -> f64 {
    let result = f(value);
    if within_f32(result).is_infinite() { result } else { f(within_f32(value)) }
}

/// Returns mean and biased variance of each channel, in two passes. Every channel has at least one value.
fn batch_statistics(x: ArrayViewD<'_, f64>, axis: Axis, channels: usize) -> Statistics {
    let mut statistics = Statistics { mean: Array1::zeros(channels), var: Array1::zeros(channels) };
    for c in 0..channels {
        let channel = x.index_axis(axis, c);
        let n = channel.len() as f64;
        let mean = channel.iter().sum::<f64>() / n;
        let var = channel.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        statistics.mean[c] = mean;
        statistics.var[c] = var;
    }
    statistics
}

#[cfg(test)]
mod tests;
