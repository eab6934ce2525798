//! Where the statistics of a channel come from.

use super::compose::Choice;

/// Where a channel's mean and `inv_std` come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statistics {
    /// The batch's own, as `finalize` left them.
    Batch,
    /// The running ones.
    Running,
    /// Not needed: only the bias's gradient is computed.
    None,
}

impl Statistics {
    /// The case of the shader file.
    pub(super) fn choice(self) -> Choice {
        let case = match self {
            Self::Batch => "batch",
            Self::Running => "running",
            Self::None => "none",
        };
        ("statistics/source", case)
    }

    /// The name in a plan's printout.
    pub fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch statistics",
            Self::Running => "running statistics",
            Self::None => "no statistics",
        }
    }
}
