//! The options of a layer, from the command line, else from the file's metadata, else PyTorch's defaults.

use crate::error::{Fault, Result};
use crate::file::Draft;
use clap::ValueEnum;
use safetensors::Dtype;
use std::str::FromStr;
use wgpu_batchnorm::{Activation, BatchNormConfig, Checkpoint, DType, Layout, UnknownName};

/// What `--mode` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Normalise with the batch's statistics, and move the running ones
    Train,
    /// Normalise with the running statistics
    Eval,
}

/// The value of `--momentum`; `None` is the cumulative average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Momentum(Option<f64>);

/// Options of the command line that go before those of the file.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Overrides {
    /// Training or eval mode [default: the file's, else train]
    #[arg(long)]
    mode: Option<Mode>,
    /// Added to the variance inside the square root [default: the file's, else 1e-5]
    #[arg(long, value_name = "X", value_parser = eps, allow_hyphen_values = true)]
    eps: Option<f64>,
    /// Weight of the batch in the running statistics; none: cumulative average
    /// [default: the file's, else 0.1]
    #[arg(long, value_name = "X|none", value_parser = momentum, allow_hyphen_values = true)]
    momentum: Option<Momentum>,
    /// The layer has no weight: it is 1 [default: the file's, else it has one]
    #[arg(long)]
    no_weight: bool,
    /// The layer has no bias: it is 0 [default: the file's, else it has one]
    #[arg(long)]
    no_bias: bool,
    /// channels-first [N, C, …] or channels-last [N, …, C] [default: the file's, else channels-first]
    #[arg(long, value_parser = layout)]
    layout: Option<Layout>,
    /// Applied to the normalised batch, after the residual was added: identity, relu, leaky-relu=SLOPE, relu6, silu,
    /// sigmoid, tanh, gelu or gelu-tanh [default: the file's, else identity]
    #[arg(long, value_name = "NAME", value_parser = activation)]
    activation: Option<Activation>,
}

/// The options of a layer, and its mode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) eps: f64,
    pub(crate) momentum: Option<f64>,
    pub(crate) weight: bool,
    pub(crate) bias: bool,
    pub(crate) track_running_stats: bool,
    pub(crate) layout: Layout,
    pub(crate) activation: Activation,
}

impl Settings {
    /// Takes each option from the command line, else from the file, else the default. An option of the command line
    /// hides the file's, which is then not even parsed.
    pub(crate) fn new(overrides: &Overrides, file: &Checkpoint) -> Result<Self, Fault> {
        let default = BatchNormConfig::new(1);
        let Momentum(momentum) =
            setting(overrides.momentum, file, "momentum", momentum, Momentum(default.momentum))?;
        // As in PyTorch, affine = false means neither, whatever else is said.
        let affine = setting(None, file, "affine", boolean, true)?;
        let parameter = |without: bool, key, default| {
            Ok::<bool, Fault>(affine & setting(without.then_some(false), file, key, boolean, default)?)
        };
        Ok(Self {
            mode: setting(overrides.mode, file, "mode", mode, Mode::Train)?,
            eps: setting(overrides.eps, file, "eps", eps, default.eps)?,
            momentum,
            weight: parameter(overrides.no_weight, "weight", default.weight)?,
            bias: parameter(overrides.no_bias, "bias", default.bias)?,
            track_running_stats: setting(
                None,
                file,
                "track_running_stats",
                boolean,
                default.track_running_stats,
            )?,
            layout: setting(overrides.layout, file, "layout", layout, default.layout)?,
            activation: setting(overrides.activation, file, "activation", activation, default.activation)?,
        })
    }

    pub(crate) fn training(&self) -> bool {
        self.mode == Mode::Train
    }

    /// Returns whether the layer has a learnable parameter, which PyTorch calls affine.
    pub(crate) fn affine(&self) -> bool {
        self.weight || self.bias
    }

    pub(crate) fn config(&self, num_features: usize) -> BatchNormConfig {
        BatchNormConfig::new(num_features)
            .eps(self.eps)
            .momentum(self.momentum)
            .weight(self.weight)
            .bias(self.bias)
            .track_running_stats(self.track_running_stats)
            .layout(self.layout)
            .activation(self.activation)
    }

    /// Returns the options with their names in the metadata of a file.
    pub(crate) fn pairs(&self) -> [(&'static str, String); 9] {
        let mode = if self.training() { "train" } else { "eval" };
        let momentum = self.momentum.map_or_else(|| "none".to_owned(), |momentum| format!("{momentum:?}"));
        [
            ("mode", mode.to_owned()),
            ("eps", format!("{:?}", self.eps)),
            ("momentum", momentum),
            ("affine", self.affine().to_string()),
            ("weight", self.weight.to_string()),
            ("bias", self.bias.to_string()),
            ("track_running_stats", self.track_running_stats.to_string()),
            ("layout", self.layout.to_string().replace('-', "_")),
            ("activation", self.activation.to_string()),
        ]
    }

    pub(crate) fn describe(&self, dtype: DType, draft: &mut Draft) {
        for (key, value) in self.pairs() {
            draft.metadata(key, value);
        }
        draft.metadata("dtype", dtype.to_string());
    }
}

/// Returns the given option, else the one parsed from the file's metadata, else the default.
fn setting<T>(
    given: Option<T>,
    file: &Checkpoint,
    key: &'static str,
    parse: fn(&str) -> Result<T, String>,
    default: T,
) -> Result<T, Fault> {
    match (given, file.metadata(key)) {
        (Some(given), _) => Ok(given),
        (None, Some(value)) => {
            parse(value).map_err(|reason| Fault::Key { key, value: value.to_owned(), reason })
        }
        (None, None) => Ok(default),
    }
}

/// Fails if the metadata `dtype` is present and names another type than the tensor's.
pub(crate) fn check_dtype(file: &Checkpoint, tensor: &str, dtype: DType) -> Result<(), Fault> {
    let names = match dtype {
        DType::F32 => ["f32", "float32", "torch.float32"],
        DType::F16 => ["f16", "float16", "torch.float16"],
        DType::BF16 => ["bf16", "bfloat16", "torch.bfloat16"],
        _ => unreachable!("{dtype} is newer than this program"),
    };
    match file.metadata("dtype") {
        Some(value) if !names.contains(&&*value.to_lowercase()) => {
            let (value, tensor) = (value.to_owned(), tensor.to_owned());
            Err(Fault::OtherType { value, tensor, dtype: stored_type(dtype) })
        }
        _ => Ok(()),
    }
}

/// Returns the type as safetensors names it.
pub(crate) fn stored_type(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        _ => unreachable!("{dtype} is newer than this program"),
    }
}

pub(crate) fn activation(text: &str) -> Result<Activation, String> {
    text.parse().map_err(|error: UnknownName| error.to_string())
}

pub(crate) fn dtype(text: &str) -> Result<DType, String> {
    text.parse().map_err(|error: UnknownName| error.to_string())
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::from_str(text, true).map_err(|_| "allowed is train or eval".to_owned())
}

fn eps(text: &str) -> Result<f64, String> {
    let eps = number(text).ok_or("not a number")?;
    BatchNormConfig::new(1).eps(eps).validate().map_err(|error| error.to_string())?;
    Ok(eps)
}

fn momentum(text: &str) -> Result<Momentum, String> {
    let momentum = match text.to_lowercase().as_str() {
        "none" => None,
        text => Some(number(text).ok_or("neither a number nor none")?),
    };
    BatchNormConfig::new(1).momentum(momentum).validate().map_err(|error| error.to_string())?;
    Ok(Momentum(momentum))
}

fn number(text: &str) -> Option<f64> {
    f64::from_str(text).ok()
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("allowed is true or false".to_owned()),
    }
}

pub(crate) fn layout(text: &str) -> Result<Layout, String> {
    Layout::from_str(text).map_err(|_| "allowed is channels-first or channels-last".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Momentum, boolean, eps, layout, mode, momentum};

    #[test]
    fn numbers_are_finite_and_in_range() {
        assert_eq!(eps("1e-05"), Ok(1e-5));
        assert_eq!(eps("0"), Ok(0.0));
        for wrong in ["abc", "", "nan", "inf", "-1", "1e39"] {
            assert!(eps(wrong).is_err(), "{wrong}");
        }
        assert_eq!(momentum("-1.2"), Ok(Momentum(Some(-1.2))));
        assert_eq!(momentum("None"), Ok(Momentum(None)));
        for wrong in ["", "nan", "-inf", "1e39", "nothing"] {
            assert!(momentum(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_are_known() {
        assert!(mode("Train").is_ok() && mode("eval").is_ok() && mode("test").is_err());
        assert!(boolean("True") == Ok(true) && boolean("false") == Ok(false) && boolean("1").is_err());
        assert!(layout("channels_last").is_ok() && layout("nhwc").is_err());
    }
}
