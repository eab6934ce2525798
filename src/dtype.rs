//! Element types of tensors.

use crate::text::{UnknownName, cut};
use half::{bf16, f16};
use std::fmt;
use std::str::FromStr;

/// Type of a tensor's elements in memory. Parameters, statistics and all arithmetic are f32 for every type. A result is
/// rounded once, to nearest even, when it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// 32 bits: 8 of exponent, 24 of precision.
    #[default]
    F32,
    /// 16 bits: 5 of exponent, 11 of precision; up to 65504.
    F16,
    /// 16 bits: 8 of exponent, 8 of precision; the upper half of an f32.
    BF16,
}

impl DType {
    /// All element types.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::BF16];

    /// Returns the bytes of an element.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Returns the unit in the last place of 1: the distance from 1 to the next larger number.
    pub fn epsilon(self) -> f64 {
        match self {
            Self::F32 => f32::EPSILON.into(),
            Self::F16 => f16::EPSILON.into(),
            Self::BF16 => bf16::EPSILON.into(),
        }
    }

    /// Rounds `value` to the nearest number of this type, ties to even.
    pub fn round(self, value: f64) -> f64 {
        match self {
            Self::F32 => f64::from(value as f32),
            Self::F16 => f16::from_f64(value).into(),
            Self::BF16 => bf16::from_f64(value).into(),
        }
    }

    /// Returns the unit in the last place of a number of `value`'s magnitude. This is the distance from the largest
    /// magnitude of this type that does not exceed `value`'s to the next larger one.
    pub fn unit(self, value: f64) -> f64 {
        let least_exponent = match self {
            Self::F32 | Self::BF16 => -126,
            Self::F16 => -14,
        };
        let exponent = if value == 0.0 || !value.is_finite() {
            least_exponent
        } else {
            let biased = (value.abs().to_bits() >> 52) as i32;
            (biased - 1023).max(least_exponent)
        };
        self.epsilon() * 2f64.powi(exponent)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        })
    }
}

impl FromStr for DType {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|dtype| dtype.to_string() == text);
        found.ok_or_else(|| UnknownName { what: "element type", text: cut(text), known: "f32, f16 and bf16" })
    }
}

/// Rust types of tensor elements: `f32`, and `f16` and `bf16` of the [`half`](crate::half) crate.
pub trait Element: bytemuck::Pod + Into<f32> + Into<f64> + PartialEq + fmt::Debug + sealed::Sealed {
    /// The element type.
    const DTYPE: DType;

    /// Rounds `value` to the nearest value of this type, ties to even.
    fn from_f32(value: f32) -> Self;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;

    fn from_f32(value: f32) -> Self {
        value
    }
}

impl Element for f16 {
    const DTYPE: DType = DType::F16;

    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }
}

impl Element for bf16 {
    const DTYPE: DType = DType::BF16;

    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

#[cfg(test)]
mod tests {
    use super::DType;
    use half::{bf16, f16};

    #[test]
    fn units_are_steps_between_neighbours() {
        for bits in 0..0x7c00 {
            let [below, above] = [bits, bits + 1].map(|bits| f64::from(f16::from_bits(bits)));
            if above.is_finite() {
                assert_eq!(DType::F16.unit(below), above - below, "{below}");
            }
        }
        for bits in 0..0x7f7f {
            let [below, above] = [bits, bits + 1].map(|bits| f64::from(bf16::from_bits(bits)));
            assert_eq!(DType::BF16.unit(below), above - below, "{below}");
        }
        assert_eq!(DType::F32.unit(-1.5), f64::from(f32::EPSILON));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for dtype in DType::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        assert!("f64".parse::<DType>().is_err_and(|error| error.to_string().contains("f64")));
    }
}
