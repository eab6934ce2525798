//! The epilogue of the normalisation: a sum, then an activation.

use super::compose::Choice;
use super::{Storage, VectorWidth};
use crate::activation::ActivationKind;
use std::fmt;

impl ActivationKind {
    /// Returns the case of the shader file.
    fn case(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Relu => "relu",
            Self::LeakyRelu => "leaky_relu",
            Self::Relu6 => "relu6",
            Self::Silu => "silu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
        }
    }

    /// Returns the name for a plan's printout: empty, or with a comma in front.
    fn name(self) -> String {
        if self == Self::Identity { String::new() } else { format!(", {}", self.case()) }
    }
}

/// Returns the case of a per-channel parameter. `there` says whether it exists.
fn per_channel(there: bool) -> &'static str {
    if there { "per_channel" } else { "none" }
}

/// Returns the cases of the backward pass for x. `needed` says whether x is read.
pub(super) fn x_choices(needed: bool) -> [Choice; 2] {
    match needed {
        true => [("tensors/x", "read"), ("backward/deviation", "from_mean")],
        false => [("tensors/x", "unused"), ("backward/deviation", "none")],
    }
}

/// How kernels write y: y = activation(bn(x) + residual).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Output {
    /// How x, y and residual are stored.
    pub storage: Storage,
    /// Whether y overwrites x.
    pub in_place: bool,
    /// Whether there is a weight.
    pub weight: bool,
    /// Whether there is a bias.
    pub bias: bool,
    /// The activation.
    pub activation: ActivationKind,
    /// Whether a residual is added.
    pub residual: bool,
}

impl Output {
    /// Returns the cases of the shader files.
    pub(super) fn choices(self, width: VectorWidth) -> Vec<Choice> {
        let x =
            if self.in_place { self.storage.atomic(width, "in_place", "in_place_atomic") } else { "read" };
        let mut choices = vec![
            ("tensors/x", x),
            ("tensors/y", self.storage.atomic(width, "store", "store_atomic")),
            ("write_elements", "y"),
            ("epilogue/weight", per_channel(self.weight)),
            ("epilogue/bias", per_channel(self.bias)),
            ("epilogue/residual", if self.residual { "add" } else { "none" }),
            ("epilogue/activation", self.activation.case()),
        ];
        choices.extend(self.storage.choices(width));
        choices
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = match (self.weight, self.bias) {
            (true, true) => ", affine",
            (true, false) => ", weight",
            (false, true) => ", bias",
            (false, false) => "",
        };
        let residual = if self.residual { ", + residual" } else { "" };
        let in_place = if self.in_place { ", in place" } else { "" };
        write!(f, "{parameters}{residual}{}{in_place}{}", self.activation.name(), self.storage.name())
    }
}

/// How the gradient of y goes back through the activation, to bn(x) + residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PreActivation {
    /// How x, dy and residual are stored.
    pub storage: Storage,
    /// Whether there is a weight.
    pub weight: bool,
    /// Whether there is a bias. Without an activation, no gradient depends on it.
    pub bias: bool,
    /// The activation.
    pub activation: ActivationKind,
    /// Whether a residual is added.
    pub residual: bool,
}

impl PreActivation {
    /// Checks whether the activation's input is recomputed from x.
    pub(crate) fn is_activated(self) -> bool {
        self.activation != ActivationKind::Identity
    }

    /// Returns the cases of the shader files.
    pub(super) fn choices(self, width: VectorWidth) -> Vec<Choice> {
        let mut choices = self.storage.choices(width);
        choices.extend([
            ("epilogue/weight", per_channel(self.weight)),
            ("epilogue/bias", per_channel(self.bias)),
            ("epilogue/residual", if self.residual { "add" } else { "none" }),
            ("epilogue/pre_activation", if self.is_activated() { "recomputed" } else { "plain" }),
            ("epilogue/activation", self.activation.case()),
        ]);
        choices
    }
}

impl fmt::Display for PreActivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = if self.weight { ", weight" } else { "" };
        let bias = if self.bias { ", bias" } else { "" };
        let residual = if self.residual { ", + residual" } else { "" };
        write!(f, "{weight}{bias}{residual}{}{}", self.activation.name(), self.storage.name())
    }
}

/// How kernels write dx and dresidual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InputGradient {
    /// How dy goes back through the activation.
    pub pre_activation: PreActivation,
    /// Whether dx overwrites dy.
    pub in_place: bool,
    /// Whether dx is wanted.
    pub dx: bool,
    /// Whether dresidual is wanted.
    pub dresidual: bool,
    /// Whether the product of slope and deviation keeps what rounding would lose. Channels with few values need this,
    /// since their dx is the small difference of large numbers. Requires batch statistics, and that an invocation
    /// computes at once only elements of different channels.
    pub exact_products: bool,
}

impl InputGradient {
    /// Returns the cases of the shader files. With `batch`, gradient flows through batch statistics.
    pub(super) fn choices(self, width: VectorWidth, batch: bool) -> Vec<Choice> {
        let storage = self.pre_activation.storage;
        let store = |wanted| if wanted { storage.atomic(width, "store", "store_atomic") } else { "none" };
        let dy = if self.in_place { storage.atomic(width, "in_place", "in_place_atomic") } else { "read" };
        let needs_x = batch || self.pre_activation.is_activated();
        let center = match (batch, self.exact_products) {
            (false, _) => "running",
            (true, false) => "batch",
            (true, true) => "batch_exact",
        };
        let mut choices = self.pre_activation.choices(width);
        choices.extend([
            ("tensors/dy", dy),
            ("tensors/dx", store(self.dx)),
            ("tensors/dresidual", store(self.dresidual)),
            ("write_elements", "gradients"),
            ("backward/input_gradient", center),
        ]);
        choices.extend(x_choices(needs_x));
        choices
    }
}

impl fmt::Display for InputGradient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = if self.exact_products { ", exact products" } else { "" };
        let in_place = if self.in_place { ", in place" } else { "" };
        let dx = if self.dx { "" } else { ", no dx" };
        let dresidual = if self.dresidual { ", dresidual" } else { "" };
        write!(f, "{}{exact}{in_place}{dx}{dresidual}", self.pre_activation)
    }
}
