//! Names that frameworks give the tensors of a batch norm.

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
/// Eval mode is the same in all of them. Two conventions of Keras, Flax and ONNX matter when training continues here:
/// - **momentum** is the weight of the *running* value there. [`momentum_from_decay`](Self::momentum_from_decay)
///   converts it.
/// - **The running variance** averages the *biased* variance of the batch (÷ n) there, and the unbiased variance
///   (÷ (n − 1)) here. A variance trained there is smaller by the factor (n − 1) / n, for n values per channel in a
///   batch. If that matters, multiply it by [`unbiased_factor`](Self::unbiased_factor). The factor is 1.00001 for the
///   100,352 values of 32 images of 56 × 56. (TensorFlow's fused kernel uses the unbiased variance, too.)
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
    /// Running average of the mean.
    pub running_mean: String,
    /// Running average of the variance.
    pub running_var: String,
    /// Count of batches. `None` if the convention has none.
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

    /// Returns PyTorch's names after a prefix that includes the dot, such as `layer1.0.bn1.`.
    ///
    /// Loading forgives a missing dot: if the file has none of these names, and the prefix ends in a letter or a digit,
    /// the names are those with a dot. Saving does the same if the file has some of those with a dot.
    pub fn pytorch(prefix: &str) -> Self {
        let names = Self::new(prefix, ["weight", "bias"], prefix, ["running_mean", "running_var"]);
        Self { num_batches_tracked: Some(format!("{prefix}num_batches_tracked")), ..names }
    }

    /// Returns the names of Keras' `BatchNormalization`, after a prefix.
    pub fn keras(prefix: &str) -> Self {
        Self::new(prefix, ["gamma", "beta"], prefix, ["moving_mean", "moving_variance"])
    }

    /// Returns the names of Flax' `BatchNorm`. It keeps parameters and statistics in two trees, so each has its own
    /// prefix, such as `params.bn1.` and `batch_stats.bn1.`.
    pub fn flax(params: &str, batch_stats: &str) -> Self {
        Self::new(params, ["scale", "bias"], batch_stats, ["mean", "var"])
    }

    /// Returns the input names of ONNX' `BatchNormalization`, after a prefix.
    pub fn onnx(prefix: &str) -> Self {
        Self::new(prefix, ["scale", "B"], prefix, ["input_mean", "input_var"])
    }

    /// Returns PyTorch's names with the dot that their prefix lacks.
    fn with_dot(&self) -> Option<Self> {
        let prefix = self.weight.strip_suffix("weight")?;
        let lacks_dot = prefix.ends_with(char::is_alphanumeric) && *self == Self::pytorch(prefix);
        lacks_dot.then(|| Self::pytorch(&format!("{prefix}.")))
    }

    /// Returns whether a checkpoint `has` any of the names.
    fn any(&self, has: impl Fn(&str) -> bool) -> bool {
        let Self { weight, bias, running_mean, running_var, num_batches_tracked } = self;
        let names = [weight, bias, running_mean, running_var];
        names.into_iter().chain(num_batches_tracked).any(|name| has(name))
    }

    /// Returns the names to look for in a checkpoint that `has` some names: these, or those with the missing dot.
    pub(super) fn for_loading(self, has: impl Fn(&str) -> bool) -> Self {
        match self.with_dot() {
            Some(dotted) if !self.any(has) => dotted,
            _ => self,
        }
    }

    /// Returns the names to insert into a checkpoint that `has` some names: these, or those with the missing dot.
    pub(super) fn for_inserting(self, has: impl Fn(&str) -> bool) -> Self {
        match self.with_dot() {
            Some(dotted) if dotted.any(&has) => self.for_loading(has),
            _ => self,
        }
    }

    /// Converts the momentum of ONNX, Keras and Flax to this library's: 1 − momentum.
    pub fn momentum_from_decay(momentum: f64) -> f64 {
        1.0 - momentum
    }

    /// Returns the factor that makes a biased running variance unbiased: n / (n − 1), for batches with `n` values per
    /// channel. Returns 1 for fewer than two values.
    pub fn unbiased_factor(n: usize) -> f64 {
        if n < 2 { 1.0 } else { n as f64 / (n - 1) as f64 }
    }
}

impl From<&str> for StateNames {
    /// Calls [`StateNames::pytorch`].
    fn from(prefix: &str) -> Self {
        Self::pytorch(prefix)
    }
}

impl From<&String> for StateNames {
    /// Calls [`StateNames::pytorch`], as with `&format!("layer{k}.bn.")`.
    fn from(prefix: &String) -> Self {
        Self::pytorch(prefix)
    }
}

impl From<String> for StateNames {
    /// Calls [`StateNames::pytorch`].
    fn from(prefix: String) -> Self {
        Self::pytorch(&prefix)
    }
}
