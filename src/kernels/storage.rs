//! How the elements of tensors lie in memory.

use super::VectorWidth;
use super::compose::Choice;
use crate::dtype::DType;
use crate::profile::AdapterProfile;

/// How the elements of tensors lie in memory. Kernels compute with f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// As f32.
    F32,
    /// As f16, with [`wgpu::Features::SHADER_F16`].
    F16,
    /// As f16, to which the device converts as it should: see [`AdapterProfile::rounds_f16`].
    ConvertedF16,
    /// As f16, two per word, without that feature.
    PackedF16,
    /// As bf16, two per word, since WGSL has no such type.
    PackedBf16,
}

impl Storage {
    /// Returns the best storage on a device for elements of type `dtype` in loads of `width`.
    ///
    /// Software drivers load vectors element by element. There, two words take half as long as four f16. Loads of eight are
    /// words, which hold f16 as it is rounded by their own arithmetic.
    pub fn new(dtype: DType, width: VectorWidth, profile: &AdapterProfile) -> Self {
        let has_f16 = profile.features.contains(wgpu::Features::SHADER_F16);
        let by_words = match width {
            VectorWidth::Scalar => false,
            VectorWidth::Four => profile.is_cpu(),
            VectorWidth::Eight => !profile.rounds_f16,
        };
        match dtype {
            DType::F32 => Self::F32,
            DType::F16 if has_f16 && !by_words && profile.rounds_f16 => Self::ConvertedF16,
            DType::F16 if has_f16 && !by_words => Self::F16,
            DType::F16 => Self::PackedF16,
            DType::BF16 => Self::PackedBf16,
        }
    }

    /// Checks whether two elements share a word.
    pub(crate) fn is_words(self) -> bool {
        matches!(self, Self::PackedF16 | Self::PackedBf16)
    }

    /// Returns the cases of the shader files.
    pub(super) fn choices(self, width: VectorWidth) -> Vec<Choice> {
        let storage = match (self, width) {
            (Self::F32, _) => "f32",
            (Self::F16 | Self::ConvertedF16, VectorWidth::Scalar) => "f16_scalar",
            (Self::F16 | Self::ConvertedF16, VectorWidth::Four) => "f16_vector",
            (Self::F16 | Self::ConvertedF16, VectorWidth::Eight) => "f16_two_vectors",
            (Self::PackedF16 | Self::PackedBf16, VectorWidth::Scalar) => "packed_scalar",
            (Self::PackedF16 | Self::PackedBf16, VectorWidth::Four) => "packed_vector",
            (Self::PackedF16 | Self::PackedBf16, VectorWidth::Eight) => "packed_two_vectors",
        };
        let mut choices = vec![("data/storage", storage)];
        match self {
            Self::F32 => {}
            Self::F16 => choices.push(("data/round_f16", "by_arithmetic")),
            Self::ConvertedF16 => choices.push(("data/round_f16", "by_conversion")),
            Self::PackedF16 => choices.push(("data/packed", "f16")),
            Self::PackedBf16 => choices.push(("data/packed", "bf16")),
        }
        choices
    }

    /// Chooses the atomic case if two invocations may write to one word.
    pub(super) fn atomic(
        self,
        width: VectorWidth,
        whole: &'static str,
        atomic: &'static str,
    ) -> &'static str {
        if self.is_words() && width == VectorWidth::Scalar { atomic } else { whole }
    }

    /// Returns the name for a plan's printout: empty, or with a comma in front.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::F16 => ", f16",
            Self::ConvertedF16 => ", f16 by conversion",
            Self::PackedF16 => ", f16 in words",
            Self::PackedBf16 => ", bf16 in words",
        }
    }
}
