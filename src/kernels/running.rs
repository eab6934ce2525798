//! Updates of the running statistics.

use super::compose::Choice;

/// How a pass updates the running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunningUpdate {
    /// No update: in eval mode, or without running statistics.
    Off,
    /// Moves them by the momentum, and counts the batch.
    Fixed,
    /// Averages them over all batches. [`CountBatch`](super::CountBatch) has counted this batch already.
    Cumulative,
}

impl RunningUpdate {
    /// Returns the case of the shader file.
    pub(super) fn choice(self) -> Choice {
        let case = match self {
            Self::Off => "none",
            Self::Fixed => "momentum",
            Self::Cumulative => "cumulative",
        };
        ("forward/running_statistics", case)
    }

    /// Returns the name for a plan's printout: empty, or with a comma in front.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "",
            Self::Fixed => ", running statistics",
            Self::Cumulative => ", cumulative running statistics",
        }
    }
}
