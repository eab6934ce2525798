//! The source of a channel's statistics.

use super::compose::Choice;

/// Where a channel's mean and `inv_std` come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statistics {
    /// The batch statistics that the forward pass stored.
    Batch,
    /// The running statistics.
    Running,
    /// Not needed: without an activation, dbias and dresidual do not depend on them, and an empty batch has none.
    None,
}

impl Statistics {
    /// Returns the case of the shader file.
    pub(super) fn choice(self) -> Choice {
        let case = match self {
            Self::Batch => "batch",
            Self::Running => "running",
            Self::None => "none",
        };
        ("statistics/source", case)
    }

    /// Returns the name for a plan's printout.
    pub fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch statistics",
            Self::Running => "running statistics",
            Self::None => "no statistics",
        }
    }
}
