//! The two modes of a layer.

/// The mode of a pass, which decides where the mean and the variance come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// PyTorch's `train()`: each channel is normalised by the statistics of the batch, which move the running statistics.
    Train,
    /// PyTorch's `eval()`: each channel is normalised by the running statistics, which stay as they are.
    Eval,
}

impl Mode {
    /// Returns whether this is [`Mode::Train`].
    pub const fn is_training(self) -> bool {
        matches!(self, Self::Train)
    }
}

/// `true` is [`Mode::Train`], as in a numpy class's `forward(x, is_training)`.
impl From<bool> for Mode {
    fn from(is_training: bool) -> Self {
        if is_training { Self::Train } else { Self::Eval }
    }
}
