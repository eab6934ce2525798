//! A case and its inputs.

use super::random::Random;
use crate::activation::Activation;
use crate::config::BatchNormConfig;
use crate::dtype::DType;
use crate::layout::Layout;
use crate::state::BatchNormState;
use ndarray::{Array1, ArrayD, Axis, IxDyn};

/// A problem for an [`Implementation`](super::Implementation): shape, options and data.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What the case is about, and the shape. Unique within [`table`](super::table()).
    pub name: String,
    /// Shape of x, in the configuration's layout.
    pub shape: Vec<usize>,
    /// The options of the layer.
    pub config: BatchNormConfig,
    /// Training or eval.
    pub training: bool,
    /// The element type of the tensors.
    pub dtype: DType,
    /// Whether a residual is added before the activation.
    pub residual: bool,
    /// Number of batches that the layer sees, one after the other.
    pub steps: usize,
    /// Mean of the data.
    pub mean: f64,
    /// Standard deviation of the data. 0 makes every value the mean.
    pub std: f64,
    /// A channel and the value that replaces its first value in the first batch: NaN or an infinity.
    pub poison: Option<(usize, f32)>,
    /// Seed of the data.
    pub seed: u64,
}

/// The data of a [`Case`].
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// One batch for each step.
    pub xs: Vec<ArrayD<f32>>,
    /// The gradient with respect to each output. Empty if only forward passes run.
    pub dys: Vec<ArrayD<f32>>,
    /// The residual that is added to each normalised batch. Empty if nothing is added.
    pub residuals: Vec<ArrayD<f32>>,
    /// Parameters and running statistics before the first step.
    pub state: BatchNormState,
}

impl Case {
    /// Returns the data. Every call returns the same numbers, on every machine up to the last digits of `ln`, `sin`
    /// and `cos`.
    ///
    /// N is a standard normal number and U a uniform number between 0 and 1, drawn anew for each value:
    /// | tensor | values |
    /// |---|---|
    /// | x | mean + std·(N + N_c / 2), with one N_c per channel of a batch |
    /// | weight, bias | 1 + N / 2, N / 2 |
    /// | running_mean, running_var | mean + 0.3·std·N, std²·(0.5 + U) |
    /// | num_batches_tracked | 3 |
    /// | dy, residual | N |
    ///
    /// If std is 0, the running statistics use 1 instead. The values of x, dy and residual are rounded to the case's
    /// element type.
    pub fn inputs(&self) -> Inputs {
        let mut random = Random::new(self.seed);
        let axis = Axis(self.config.layout.channel_axis(self.shape.len()));
        let xs = (0..self.steps)
            .map(|step| {
                let mut x = ArrayD::zeros(IxDyn(&self.shape));
                for (c, mut channel) in x.axis_iter_mut(axis).enumerate() {
                    let offset = 0.5 * random.normal();
                    channel.mapv_inplace(|_: f32| {
                        self.dtype.round(self.mean + self.std * (random.normal() + offset)) as f32
                    });
                    if let (0, Some((poisoned, value))) = (step, self.poison)
                        && poisoned == c
                        && let Some(first) = channel.first_mut()
                    {
                        *first = value;
                    }
                }
                x
            })
            .collect();
        let std = if self.std == 0.0 { 1.0 } else { self.std };
        let mut vector = |center: f64, spread: f64| -> Array1<f32> {
            Array1::from_shape_simple_fn(self.config.num_features, || {
                (center + spread * random.normal()) as f32
            })
        };
        let (weight, bias) = (vector(1.0, 0.5), vector(0.0, 0.5));
        let running_mean = vector(self.mean, 0.3 * std);
        let running_var = Array1::from_shape_simple_fn(self.config.num_features, || {
            (std * std * (0.5 + random.uniform())) as f32
        });
        let track = self.config.track_running_stats;
        let state = BatchNormState {
            weight: self.config.weight.then_some(weight),
            bias: self.config.bias.then_some(bias),
            running_mean: track.then_some(running_mean),
            running_var: track.then_some(running_var),
            num_batches_tracked: track.then_some(3),
        };
        let rounded = |value: f64| self.dtype.round(value) as f32;
        let mut tensors = |count: usize| -> Vec<ArrayD<f32>> {
            let tensor = |_| ArrayD::from_shape_simple_fn(IxDyn(&self.shape), || rounded(random.normal()));
            (0..count).map(tensor).collect()
        };
        let dys = tensors(self.steps);
        let residuals = tensors(if self.residual { self.steps } else { 0 });
        Inputs { xs, dys, residuals, state }
    }

    /// Returns the number of elements of all batches together.
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product::<usize>() * self.steps
    }

    /// Returns whether the case is f32 with neither an activation nor a residual.
    pub fn is_plain(&self) -> bool {
        !self.residual && self.dtype == DType::F32 && self.config.activation == Activation::Identity
    }

    /// Returns a training step with PyTorch's defaults on standard normal data, channels first.
    pub(super) fn new(about: &str, shape: &[usize]) -> Self {
        Self::in_layout(about, shape, Layout::ChannelsFirst)
    }

    /// Returns the same step, channels last.
    pub(super) fn last(about: &str, shape: &[usize]) -> Self {
        Self::in_layout(&format!("channels last, {about}"), shape, Layout::ChannelsLast)
    }

    pub(super) fn in_layout(about: &str, shape: &[usize], layout: Layout) -> Self {
        let channels = shape[layout.channel_axis(shape.len())];
        Self {
            name: format!("{about} {shape:?}"),
            shape: shape.to_vec(),
            config: BatchNormConfig::new(channels).layout(layout),
            training: true,
            dtype: DType::F32,
            residual: false,
            steps: 1,
            mean: 0.0,
            std: 1.0,
            poison: None,
            seed: 0,
        }
    }

    pub(super) fn with(mut self, change: impl FnOnce(BatchNormConfig) -> BatchNormConfig) -> Self {
        self.config = change(self.config);
        self
    }

    pub(super) fn eval(mut self) -> Self {
        self.training = false;
        self
    }

    pub(super) fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    pub(super) fn add(mut self) -> Self {
        self.residual = true;
        self
    }

    pub(super) fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    pub(super) fn data(mut self, mean: f64, std: f64) -> Self {
        (self.mean, self.std) = (mean, std);
        self
    }

    pub(super) fn poison(mut self, channel: usize, value: f32) -> Self {
        self.poison = Some((channel, value));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Case;
    use crate::error::Result;
    use crate::verify::table;
    use ndarray::Axis;

    #[test]
    fn inputs_are_as_described() -> Result<()> {
        for case in table().into_iter().filter(|case| case.shape.iter().product::<usize>() < 3000) {
            let inputs = case.inputs();
            inputs.state.validate(&case.config)?;
            assert_eq!(inputs.xs.len(), case.steps);
            assert!(inputs.xs.iter().all(|x| x.shape() == case.shape));
            // Compares bits, so that NaN equals itself.
            let bits = |case: &Case| -> Vec<u32> {
                case.inputs().xs.iter().flatten().map(|value| value.to_bits()).collect()
            };
            assert_eq!(bits(&case), bits(&case));
            let odd = inputs.xs.iter().flatten().filter(|value| !value.is_finite()).count();
            assert_eq!(odd, usize::from(case.poison.is_some()), "{}", case.name);
            if case.std == 0.0 {
                assert!(inputs.xs[0].iter().all(|&value| value == case.mean as f32));
            } else if let [first, second, ..] = inputs.xs.as_slice()
                && !first.is_empty()
            {
                assert_ne!(first, second, "{}", case.name);
            }
        }
        Ok(())
    }

    #[test]
    fn poison_is_in_its_channel() {
        let case = Case::last("", &[2, 3, 4]).poison(1, f32::NAN);
        let x = &case.inputs().xs[0];
        let nans: Vec<_> = x
            .axis_iter(Axis(2))
            .map(|channel| channel.iter().filter(|value| value.is_nan()).count())
            .collect();
        assert_eq!(nans, [0, 1, 0, 0]);
    }
}
