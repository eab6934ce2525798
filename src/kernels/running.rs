//! Whether and how running statistics move.

use super::compose::Choice;

/// What becomes of the running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunningUpdate {
    /// There are none.
    Off,
    /// They move by the momentum, and the batch is counted.
    Fixed,
    /// They are averages over all batches; this one was counted already, by
    /// [`CountBatch`](super::CountBatch).
    Cumulative,
}

impl RunningUpdate {
    /// The case of the shader file.
    pub(super) fn choice(self) -> Choice {
        let case = match self {
            Self::Off => "none",
            Self::Fixed => "momentum",
            Self::Cumulative => "cumulative",
        };
        ("forward/running_statistics", case)
    }

    /// The name in a plan's printout; empty or with a comma in front.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "",
            Self::Fixed => ", running statistics",
            Self::Cumulative => ", cumulative running statistics",
        }
    }
}
