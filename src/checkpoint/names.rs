//! What frameworks call the tensors of a batch norm.

/// Names of a batch norm's tensors in a file.
///
/// | here and in PyTorch | Keras | Flax | ONNX |
/// |---|---|---|---|
/// | `weight` | `gamma` | `scale` | `scale` |
/// | `bias` | `beta` | `bias` | `B` |
/// | `running_mean` | `moving_mean` | `mean` | `input_mean` |
/// | `running_var` | `moving_variance` | `var` | `input_var` |
/// | `num_batches_tracked` | – | – | – |
///
/// Eval mode is the same everywhere. To go on training, two conventions differ there:
/// - **momentum** is the weight of the *running* value: [`momentum_from_decay`](Self::momentum_from_decay) converts
///   it.
/// - **The running variance** moves with the *biased* variance of the batch (÷ n), and here with the unbiased one
///   (÷ (n − 1)). A variance that was trained there is so much smaller, by (n − 1) / n for n values per channel in a
///   batch; [`unbiased_factor`](Self::unbiased_factor) is what to multiply it with, if that matters: for the 100,352
///   values of 32 images of 56 × 56 it is 1.00001. (TensorFlow's fused kernel moves with the unbiased one, too.)
///
/// ```
/// use wgpu_batchnorm::StateNames;
///
/// let names = StateNames::keras("bn1.");
/// assert_eq!(names.running_var, "bn1.moving_variance");
/// assert_eq!(StateNames::momentum_from_decay(0.75), 0.25);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateNames {
    /// γ.
    pub weight: String,
    /// β.
    pub bias: String,
    /// The running average of the mean.
    pub running_mean: String,
    /// The running average of the variance.
    pub running_var: String,
    /// The count of batches, where there is one.
    pub num_batches_tracked: Option<String>,
}

impl StateNames {
    fn new(parameters: &str, [weight, bias]: [&str; 2], statistics: &str, [mean, var]: [&str; 2]) -> Self {
        Self {
            weight: format!("{parameters}{weight}"),
            bias: format!("{parameters}{bias}"),
            running_mean: format!("{statistics}{mean}"),
            running_var: format!("{statistics}{var}"),
            num_batches_tracked: None,
        }
    }

    /// PyTorch's, behind a prefix such as `layer1.0.bn1.`, with its dot.
    pub fn pytorch(prefix: &str) -> Self {
        let names = Self::new(prefix, ["weight", "bias"], prefix, ["running_mean", "running_var"]);
        Self { num_batches_tracked: Some(format!("{prefix}num_batches_tracked")), ..names }
    }

    /// Those of Keras' `BatchNormalization`, behind a prefix.
    pub fn keras(prefix: &str) -> Self {
        Self::new(prefix, ["gamma", "beta"], prefix, ["moving_mean", "moving_variance"])
    }

    /// Those of Flax' `BatchNorm`, which keeps parameters and statistics in two trees: behind a prefix each, such as
    /// `params.bn1.` and `batch_stats.bn1.`.
    pub fn flax(params: &str, batch_stats: &str) -> Self {
        Self::new(params, ["scale", "bias"], batch_stats, ["mean", "var"])
    }

    /// Those of the inputs of ONNX' `BatchNormalization`, behind a prefix.
    pub fn onnx(prefix: &str) -> Self {
        Self::new(prefix, ["scale", "B"], prefix, ["input_mean", "input_var"])
    }

    /// The momentum here of what ONNX, Keras and Flax call momentum: 1 − it.
    pub fn momentum_from_decay(momentum: f64) -> f64 {
        1.0 - momentum
    }

    /// What a biased running variance, of batches with `n` values per channel, is to be multiplied with to be
    /// unbiased: n / (n − 1). 1 for fewer than two values.
    pub fn unbiased_factor(n: usize) -> f64 {
        if n < 2 { 1.0 } else { n as f64 / (n - 1) as f64 }
    }
}

impl From<&str> for StateNames {
    /// [`StateNames::pytorch`].
    fn from(prefix: &str) -> Self {
        Self::pytorch(prefix)
    }
}
