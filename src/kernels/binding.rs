//! The bindings of kernels.

macro_rules! bindings {
    ($($(#[$doc:meta])* $binding:ident = $number:literal, $name:literal;)*) => {
        /// A tensor or table that kernels bind. Its number is its binding in every kernel, in group 0.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Binding {
            $($(#[$doc])* $binding = $number,)*
        }

        impl Binding {
            /// All bindings, in the order of their numbers.
            const ALL: &[Self] = &[$(Self::$binding),*];

            /// Returns the name in messages and labels.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$binding => $name,)*
                }
            }
        }
    };
}

bindings! {
    /// The uniform of sizes and options.
    Params = 0, "uniform_params";
    /// The input.
    X = 1, "x";
    /// The output.
    Y = 2, "y";
    /// Per channel: mean (two parts), `inv_std`, variance of the batch.
    Statistics = 3, "statistics";
    /// γ.
    Weight = 4, "weight";
    /// β.
    Bias = 5, "bias";
    /// Running average of the mean.
    RunningMean = 6, "running_mean";
    /// Running average of the unbiased variance.
    RunningVar = 7, "running_var";
    /// Number of batches seen, 64 bits.
    NumBatchesTracked = 8, "num_batches_tracked";
    /// Scratch: partial moments or sums per split and channel.
    Partials = 9, "partials";
    /// The gradient with respect to the output.
    Dy = 10, "dy";
    /// The gradient with respect to the input.
    Dx = 11, "dx";
    /// The gradient with respect to the weight.
    DWeight = 12, "dweight";
    /// The gradient with respect to the bias.
    DBias = 13, "dbias";
    /// Scratch: per channel, the mean of dy and its slope along x.
    Projections = 14, "projections";
    /// The residual that is added to the normalised input.
    Residual = 15, "residual";
    /// The gradient with respect to the residual.
    DResidual = 16, "dresidual";
}

impl Binding {
    /// Returns the binding that has this number in shaders.
    pub(super) fn from_number(number: usize) -> Option<Self> {
        Self::ALL.get(number).copied()
    }

    /// The tensors: all have the shape and the element type of x.
    pub(crate) const TENSORS: [Self; 6] =
        [Self::X, Self::Y, Self::Residual, Self::Dy, Self::Dx, Self::DResidual];

    /// Returns the variable's name in WGSL: [`name`](Self::name), unless that means something else to a compiler.
    pub fn variable(self) -> &'static str {
        match self {
            // DXC has a namespace of this name, and naga does not know about it.
            Self::Dx => "dx_tensor",
            _ => self.name(),
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
    /// A storage buffer that is written, and may be read.
    ReadWrite,
}
