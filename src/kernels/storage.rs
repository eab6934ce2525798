//! How the elements of tensors lie in memory.

use super::Width;
use crate::DType;

/// How the elements of tensors lie in memory. They are computed with as f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// As f32.
    F32,
    /// As f16, with [`wgpu::Features::SHADER_F16`].
    F16,
    /// As f16, two in a word, without that feature.
    F16Words,
    /// As bf16, two in a word: WGSL has no such type.
    Bf16Words,
}

impl Storage {
    pub(super) const ALL: [Self; 4] = [Self::F32, Self::F16, Self::F16Words, Self::Bf16Words];

    /// How elements of a type are stored on a device.
    pub fn new(dtype: DType, features: wgpu::Features) -> Self {
        match dtype {
            DType::F32 => Self::F32,
            DType::F16 if features.contains(wgpu::Features::SHADER_F16) => Self::F16,
            DType::F16 => Self::F16Words,
            DType::BF16 => Self::Bf16Words,
        }
    }

    /// Whether two elements share a word.
    pub(crate) fn is_words(self) -> bool {
        matches!(self, Self::F16Words | Self::Bf16Words)
    }

    /// The WGSL pieces.
    pub(super) fn pieces(self, width: Width) -> Vec<&'static str> {
        let words = match width {
            Width::One => "storage_halves",
            Width::Four => "storage_pairs",
        };
        match self {
            Self::F32 => vec!["storage_f32"],
            Self::F16 if width == Width::One => vec!["storage_f16_one", "round_f16"],
            Self::F16 => vec!["storage_f16_four", "round_f16"],
            Self::F16Words => vec![words, "pack_f16", "round_f16"],
            Self::Bf16Words => vec![words, "pack_bf16", "round_bf16"],
        }
    }

    /// Of two pieces that write, or read what may be written meanwhile: the one for whole loads, or for halves of
    /// words.
    pub(super) fn whole_or_halves(
        self,
        width: Width,
        whole: &'static str,
        halves: &'static str,
    ) -> &'static str {
        if self.is_words() && width == Width::One { halves } else { whole }
    }

    /// The name in a plan's printout; empty or with a comma in front.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::F16 => ", f16",
            Self::F16Words => ", f16 in words",
            Self::Bf16Words => ", bf16 in words",
        }
    }
}
