//! Where the statistics of a channel come from.

use super::compose::Choice;
use super::{Access, Binding};

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

    /// What the piece binds.
    pub(super) fn bindings(self) -> Vec<(Binding, Access)> {
        match self {
            Self::Batch => vec![(Binding::Statistics, Access::Read)],
            Self::Running => vec![(Binding::RunningMean, Access::Read), (Binding::RunningVar, Access::Read)],
            Self::None => vec![],
        }
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
