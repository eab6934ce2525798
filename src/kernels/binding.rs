//! What kernels bind, and how.

/// A tensor or table that kernels bind. Its number is its binding in every kernel, in group 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Binding {
    /// The uniform of sizes and options.
    Params = 0,
    /// The input.
    X = 1,
    /// The output.
    Y = 2,
    /// Per channel: mean (two parts), `inv_std`, variance of the batch.
    Statistics = 3,
    /// γ.
    Weight = 4,
    /// β.
    Bias = 5,
    /// Running average of the mean.
    RunningMean = 6,
    /// Running average of the unbiased variance.
    RunningVar = 7,
    /// Number of batches seen, 64 bits.
    NumBatchesTracked = 8,
    /// Scratch: partial moments or sums per split and channel.
    Partials = 9,
    /// The gradient with respect to the output.
    Dy = 10,
    /// The gradient with respect to the input.
    Dx = 11,
    /// The gradient with respect to the weight.
    DWeight = 12,
    /// The gradient with respect to the bias.
    DBias = 13,
    /// Scratch: per channel, the mean of dy and its slope along x.
    Projections = 14,
    /// What is added to the normalised input.
    Z = 15,
    /// The gradient with respect to that.
    Dz = 16,
}

impl Binding {
    /// All of them, in the order of the numbers.
    const ALL: [Self; 17] = [
        Self::Params,
        Self::X,
        Self::Y,
        Self::Statistics,
        Self::Weight,
        Self::Bias,
        Self::RunningMean,
        Self::RunningVar,
        Self::NumBatchesTracked,
        Self::Partials,
        Self::Dy,
        Self::Dx,
        Self::DWeight,
        Self::DBias,
        Self::Projections,
        Self::Z,
        Self::Dz,
    ];

    /// The one that shaders bind by this number.
    pub(super) fn from_number(number: usize) -> Option<Self> {
        Self::ALL.get(number).copied()
    }

    /// The tensors: all have the shape and the element type of x.
    pub(crate) const TENSORS: [Self; 6] = [Self::X, Self::Y, Self::Z, Self::Dy, Self::Dx, Self::Dz];

    /// The name of the variable in WGSL: [`name`](Self::name), but where that means something else to a compiler.
    pub fn variable(self) -> &'static str {
        match self {
            // DXC has a namespace of this name, and naga does not know.
            Self::Dx => "dx_tensor",
            _ => self.name(),
        }
    }

    /// The name in messages, and of labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Params => "uniform_params",
            Self::X => "x",
            Self::Y => "y",
            Self::Statistics => "statistics",
            Self::Weight => "weight",
            Self::Bias => "bias",
            Self::RunningMean => "running_mean",
            Self::RunningVar => "running_var",
            Self::NumBatchesTracked => "num_batches_tracked",
            Self::Partials => "partials",
            Self::Dy => "dy",
            Self::Dx => "dx",
            Self::DWeight => "dweight",
            Self::DBias => "dbias",
            Self::Projections => "projections",
            Self::Z => "z",
            Self::Dz => "dz",
        }
    }
}

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// A uniform buffer.
    Uniform,
    /// A storage buffer that is read.
    Read,
    /// A storage buffer that is written, and perhaps read.
    ReadWrite,
}
