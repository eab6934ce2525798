//! Activations that are fused with the normalisation. Their values and derivatives here are in f64.

use crate::text::{UnknownName, cut};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
use std::fmt;
use std::str::FromStr;

/// A function that a layer applies to the normalised input, in the same pass over memory: y = activation(bn(x)), or
/// activation(bn(x) + residual).
///
/// The function's argument is u:
///
/// | activation | function | PyTorch |
/// |---|---|---|
/// | `Identity` | u | `Identity` |
/// | `Relu` | max(u, 0) | `ReLU` |
/// | `LeakyRelu` | u where u > 0, else slope·u | `LeakyReLU(slope)` |
/// | `Relu6` | min(max(u, 0), 6) | `ReLU6` |
/// | `Silu` | u / (1 + e⁻ᵘ) | `SiLU` |
/// | `Sigmoid` | 1 / (1 + e⁻ᵘ) | `Sigmoid` |
/// | `Tanh` | tanh(u) | `Tanh` |
/// | `Gelu` | u · (1 + erf(u/√2)) / 2 | `GELU()` |
/// | `GeluTanh` | u · (1 + tanh(√(2/π)·(u + 0.044715·u³))) / 2 | `GELU(approximate='tanh')` |
///
/// NaN stays NaN. At a corner, the derivative is PyTorch's: the derivative from below at 0, and 0 at 6. So is the
/// derivative at NaN: 1 for `Identity`, `Relu` and `Relu6`, the slope for `LeakyRelu`, and NaN for all others.
///
/// As text, an activation is `identity`, `relu`, `leaky-relu=0.1`, `relu6`, `silu`, `sigmoid`, `tanh`, `gelu` or
/// `gelu-tanh`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// No activation.
    #[default]
    Identity,
    /// The rectified linear unit.
    Relu,
    /// The rectified linear unit with a slope for negative u.
    LeakyRelu {
        /// The slope, a finite number. PyTorch's default is 0.01, YOLO's is 0.1.
        slope: f64,
    },
    /// The rectified linear unit, bounded by 6.
    Relu6,
    /// The sigmoid linear unit, also called swish.
    Silu,
    /// The logistic function.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// The Gaussian error linear unit.
    Gelu,
    /// The approximation of GELU by tanh.
    GeluTanh,
}

/// Coefficient of u³ in GELU's approximation.
const CUBIC: f64 = 0.044_715;

impl Activation {
    /// Every activation once. `LeakyRelu` has the slope of YOLO's blocks.
    pub const ALL: [Self; 9] = [
        Self::Identity,
        Self::Relu,
        Self::LeakyRelu { slope: 0.1 },
        Self::Relu6,
        Self::Silu,
        Self::Sigmoid,
        Self::Tanh,
        Self::Gelu,
        Self::GeluTanh,
    ];

    /// Returns the function's value.
    pub fn value(self, u: f64) -> f64 {
        match self {
            Self::Identity => u,
            // Comparisons are false for NaN, so that NaN stays NaN.
            Self::Relu => {
                if u <= 0.0 {
                    0.0
                } else {
                    u
                }
            }
            Self::LeakyRelu { slope } => {
                if u > 0.0 {
                    u
                } else {
                    slope * u
                }
            }
            // `clamp` keeps NaN, too.
            Self::Relu6 => u.clamp(0.0, 6.0),
            Self::Silu => u / (1.0 + (-u).exp()),
            Self::Sigmoid => sigmoid(u),
            Self::Tanh => u.tanh(),
            Self::Gelu => u * normal_cdf(u),
            Self::GeluTanh => u * 0.5 * (1.0 + gelu_inner(u).tanh()),
        }
    }

    /// Returns the function's derivative.
    pub fn derivative(self, u: f64) -> f64 {
        match self {
            Self::Identity => 1.0,
            Self::Relu => {
                if u <= 0.0 {
                    0.0
                } else {
                    1.0
                }
            }
            // Written as in PyTorch: a comparison with NaN is false.
            Self::LeakyRelu { slope } => {
                if u > 0.0 {
                    1.0
                } else {
                    slope
                }
            }
            Self::Relu6 => {
                if u <= 0.0 || u >= 6.0 {
                    0.0
                } else {
                    1.0
                }
            }
            Self::Silu => sigmoid(u) * (1.0 + u * sigmoid(-u)),
            Self::Sigmoid => sigmoid(u) * sigmoid(-u),
            Self::Tanh => u.cosh().powi(-2),
            Self::Gelu => {
                let density = (-0.5 * u * u).exp() * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * 0.5;
                normal_cdf(u) + u * density
            }
            Self::GeluTanh => {
                let (inner, inner_derivative) =
                    (gelu_inner(u), FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (1.0 + 3.0 * CUBIC * u * u));
                0.5 * (1.0 + inner.tanh()) + 0.5 * u * inner.cosh().powi(-2) * inner_derivative
            }
        }
    }

    /// Returns the gradient with respect to u, given the gradient `dy` with respect to the function's value. Where the
    /// derivative of `Relu` or `Relu6` is 0, returns 0 even if `dy` is infinite.
    ///
    /// The gradient of `GeluTanh` is NaN where u² is infinite in f32, from |u| ≈ 1.8·10¹⁹ on: PyTorch and the kernels
    /// multiply the derivative of tanh, which is 0 there, by that of its argument, which has the term u².
    pub fn backward(self, dy: f64, u: f64) -> f64 {
        match self {
            Self::Relu | Self::Relu6 if self.derivative(u) == 0.0 => 0.0,
            Self::GeluTanh if ((u * u) as f32).is_infinite() => f64::NAN,
            _ => dy * self.derivative(u),
        }
    }

    /// Returns the points where the derivative jumps, and the size of the jump.
    #[cfg(feature = "verify")]
    pub(crate) fn corners(self) -> (&'static [f64], f64) {
        match self {
            Self::Relu => (&[0.0], 1.0),
            Self::LeakyRelu { slope } => (&[0.0], (1.0 - slope).abs()),
            Self::Relu6 => (&[0.0, 6.0], 1.0),
            _ => (&[], 0.0),
        }
    }

    /// Returns the slope of [`LeakyRelu`](Self::LeakyRelu), and 0 for other activations.
    pub(crate) fn slope(self) -> f64 {
        if let Self::LeakyRelu { slope } = self { slope } else { 0.0 }
    }

    /// Returns the function without its parameter. Kernels are compiled per kind.
    pub(crate) fn kind(self) -> ActivationKind {
        match self {
            Self::Identity => ActivationKind::Identity,
            Self::Relu => ActivationKind::Relu,
            Self::LeakyRelu { .. } => ActivationKind::LeakyRelu,
            Self::Relu6 => ActivationKind::Relu6,
            Self::Silu => ActivationKind::Silu,
            Self::Sigmoid => ActivationKind::Sigmoid,
            Self::Tanh => ActivationKind::Tanh,
            Self::Gelu => ActivationKind::Gelu,
            Self::GeluTanh => ActivationKind::GeluTanh,
        }
    }
}

fn sigmoid(u: f64) -> f64 {
    1.0 / (1.0 + (-u).exp())
}

/// Returns the cumulative distribution function of the standard normal distribution.
fn normal_cdf(u: f64) -> f64 {
    0.5 * (1.0 + libm::erf(u * FRAC_1_SQRT_2))
}

fn gelu_inner(u: f64) -> f64 {
    FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (u + CUBIC * u * u * u)
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeakyRelu { slope } => write!(f, "leaky-relu={slope}"),
            Self::Identity => f.write_str("identity"),
            Self::Relu => f.write_str("relu"),
            Self::Relu6 => f.write_str("relu6"),
            Self::Silu => f.write_str("silu"),
            Self::Sigmoid => f.write_str("sigmoid"),
            Self::Tanh => f.write_str("tanh"),
            Self::Gelu => f.write_str("gelu"),
            Self::GeluTanh => f.write_str("gelu-tanh"),
        }
    }
}

impl FromStr for Activation {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        if let Some(slope) = text.strip_prefix("leaky-relu=")
            && let Ok(slope) = slope.parse::<f64>()
            && slope.is_finite()
        {
            return Ok(Self::LeakyRelu { slope });
        }
        let found = Self::ALL.into_iter().find(|activation| activation.to_string() == text);
        found.ok_or_else(|| UnknownName {
            what: "activation",
            text: cut(text),
            known: "identity, relu, leaky-relu=SLOPE (such as leaky-relu=0.1), relu6, silu, sigmoid, tanh, gelu and \
                    gelu-tanh",
        })
    }
}

/// The function of an [`Activation`](Activation), without its parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as in Activation")]
pub enum ActivationKind {
    Identity,
    Relu,
    LeakyRelu,
    Relu6,
    Silu,
    Sigmoid,
    Tanh,
    Gelu,
    GeluTanh,
}

#[cfg(test)]
mod tests {
    use super::Activation;

    /// Compares to table values, to 1e-7. GELU is as PyTorch's documentation defines it.
    #[test]
    fn values_are_those_of_tables() {
        let values = [
            (Activation::Silu, 1.0, 0.731_058_6),
            (Activation::Sigmoid, -2.0, 0.119_202_9),
            (Activation::Tanh, 0.5, 0.462_117_2),
            (Activation::Gelu, 1.0, 0.841_344_7),
            (Activation::Gelu, -1.0, -0.158_655_3),
            (Activation::GeluTanh, 1.0, 0.841_191_9),
            (Activation::LeakyRelu { slope: 0.1 }, -3.0, -0.3),
            (Activation::Relu6, 7.0, 6.0),
            (Activation::Relu, -7.0, 0.0),
        ];
        for (activation, u, expected) in values {
            let value = activation.value(u);
            assert!((value - expected).abs() < 1e-7, "{activation} of {u} is {value}, not {expected}");
        }
    }

    #[test]
    fn derivatives_are_limits_of_differences() {
        for activation in Activation::ALL {
            for k in -800..=800 {
                // None of these points is at a corner.
                let (u, step) = (f64::from(k) * 0.01 + 0.003, 1e-5);
                let difference = (activation.value(u + step) - activation.value(u - step)) / (2.0 * step);
                let derivative = activation.derivative(u);
                assert!(
                    (difference - derivative).abs() < 1e-9,
                    "{activation} at {u}: {difference} {derivative}"
                );
            }
        }
    }

    #[test]
    fn corners_and_what_is_not_a_number() {
        assert_eq!([0.0, 6.0].map(|u| Activation::Relu6.derivative(u)), [0.0, 0.0]);
        assert_eq!(Activation::Relu.derivative(0.0), 0.0);
        assert_eq!(Activation::LeakyRelu { slope: 0.1 }.derivative(0.0), 0.1);
        assert_eq!(Activation::Relu.backward(f64::INFINITY, -1.0), 0.0);
        // 1.9e19² is above the largest f32, and 1.8e19² below.
        assert_eq!([1.8e19, -1.8e19].map(|u| Activation::GeluTanh.backward(3.0, u)), [3.0, 0.0]);
        assert!(
            [1.9e19, -1.9e19].map(|u| Activation::GeluTanh.backward(3.0, u)).iter().all(|dx| dx.is_nan())
        );
        for activation in Activation::ALL {
            assert!(activation.value(f64::NAN).is_nan(), "{activation}");
        }
        assert_eq!(Activation::Tanh.value(f64::INFINITY), 1.0);
        assert_eq!(Activation::Tanh.derivative(f64::INFINITY), 0.0);
        assert_eq!(Activation::Sigmoid.value(f64::NEG_INFINITY), 0.0);
        // 0 times infinity is NaN, as in PyTorch.
        assert!(Activation::Silu.value(f64::NEG_INFINITY).is_nan());
        assert!(Activation::Gelu.value(f64::NEG_INFINITY).is_nan());
    }

    /// The derivatives at NaN that PyTorch 2.15 gives on a CPU, for one value: its vectorised ReLU6 gives 0 instead.
    #[test]
    fn derivatives_at_nan_are_those_of_pytorch() {
        for activation in Activation::ALL {
            let expected = match activation {
                Activation::Identity | Activation::Relu | Activation::Relu6 => 3.0,
                Activation::LeakyRelu { slope } => 3.0 * slope,
                _ => f64::NAN,
            };
            let found = activation.backward(3.0, f64::NAN);
            assert!(found == expected || (found.is_nan() && expected.is_nan()), "{activation}: {found}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for activation in Activation::ALL {
            assert_eq!(activation.to_string().parse(), Ok(activation));
        }
        for text in ["", "elu", "leaky-relu", "leaky-relu=", "leaky-relu=inf", "relu=1"] {
            assert!(text.parse::<Activation>().is_err_and(|error| error.text == text), "{text}");
        }
    }
}
