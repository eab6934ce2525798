//! Parameters and running statistics on the host: PyTorch's state dict.

use crate::config::BatchNormConfig;
use crate::error::{Error, Result};
use ndarray::Array1;

/// Parameters and running statistics of a layer, named as in PyTorch's `state_dict()`.
///
/// `weight` and `bias` are present if the configuration's options of the same names are true. `running_mean`,
/// `running_var` and `num_batches_tracked` are present if the layer tracks running statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormState {
    /// γ, one per channel.
    pub weight: Option<Array1<f32>>,
    /// β, one per channel.
    pub bias: Option<Array1<f32>>,
    /// Running average of the batch mean.
    pub running_mean: Option<Array1<f32>>,
    /// Running average of the **unbiased** batch variance.
    pub running_var: Option<Array1<f32>>,
    /// Number of training batches seen.
    pub num_batches_tracked: Option<u64>,
}

impl BatchNormState {
    /// Returns the state of a new layer: weight 1, bias 0, running mean 0, running variance 1, no batches.
    pub fn new(config: &BatchNormConfig) -> Self {
        let channels = config.num_features;
        Self {
            weight: config.weight.then(|| Array1::ones(channels)),
            bias: config.bias.then(|| Array1::zeros(channels)),
            running_mean: config.track_running_stats.then(|| Array1::zeros(channels)),
            running_var: config.track_running_stats.then(|| Array1::ones(channels)),
            num_batches_tracked: config.track_running_stats.then_some(0),
        }
    }

    /// Checks that exactly the tensors of `config` are present, each vector with one value per channel.
    ///
    /// # Errors
    /// - [`Error::StateMismatch`] for a missing or surplus tensor.
    /// - [`Error::ParameterLength`] for a tensor of the wrong length.
    ///
    /// Both name the tensor.
    pub fn validate(&self, config: &BatchNormConfig) -> Result<()> {
        let vectors = [
            ("weight", &self.weight, config.weight),
            ("bias", &self.bias, config.bias),
            ("running_mean", &self.running_mean, config.track_running_stats),
            ("running_var", &self.running_var, config.track_running_stats),
        ];
        for (name, vector, expected) in vectors {
            check_presence(name, vector.is_some(), expected)?;
            if let Some(vector) = vector
                && vector.len() != config.num_features
            {
                return Err(Error::ParameterLength {
                    name,
                    length: vector.len(),
                    num_features: config.num_features,
                });
            }
        }
        check_presence("num_batches_tracked", self.num_batches_tracked.is_some(), config.track_running_stats)
    }
}

fn check_presence(name: &'static str, present: bool, expected: bool) -> Result<()> {
    if present == expected { Ok(()) } else { Err(Error::StateMismatch { name, expected }) }
}
