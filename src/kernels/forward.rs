//! The kernels of the forward pass.

use super::compose::Choice;
use super::{Held, Lanes, Output, Source, Statistics, Storage, Tracking, Variant, Walk};
use std::fmt;

/// Adds 1 to `num_batches_tracked`. One invocation; no uniform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CountBatch;

/// Reduces x to moments of every channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moments {
    /// How x is visited. [`Walk::Columns`] goes with [`Lanes::Alone`] and only with that.
    pub walk: Walk,
    /// How lanes merge.
    pub lanes: Lanes,
    /// How x is stored.
    pub storage: Storage,
    /// What becomes of the moments.
    pub result: MomentsResult,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

/// What becomes of the moments of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MomentsResult {
    /// They are kept as a partial result.
    Partials,
    /// The channel is one split: its statistics are computed, and the running ones move.
    Statistics(Tracking),
}

impl Variant for Moments {
    fn source(&self) -> Source {
        let result: &[Choice] = match self.result {
            MomentsResult::Partials => &[("split_result", "partial")],
            MomentsResult::Statistics(tracking) => &[("split_result", "statistics"), tracking.choice()],
        };
        Source::new("moments", self.lanes, self.workgroup_size)
            .walk(self.walk)
            .choose(self.storage.choices(self.walk.width()))
            .choose([("tensors/x", "read")])
            .choose(result.iter().copied())
    }
}

impl fmt::Display for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}{}", self.walk, self.lanes, self.storage.name())?;
        match self.result {
            MomentsResult::Partials => f.write_str(", partials"),
            MomentsResult::Statistics(tracking) => f.write_str(tracking.name()),
        }
    }
}

/// Merges partial moments to statistics, and moves the running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Finalize {
    /// Whether there are running statistics to move.
    pub tracking: Tracking,
    /// Channels a workgroup takes, a power of two; its other lanes share the splits of each.
    pub channels_per_workgroup: u32,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl Variant for Finalize {
    fn source(&self) -> Source {
        let lanes = Lanes::Tree { channels: self.channels_per_workgroup };
        Source::new("finalize", lanes, self.workgroup_size)
            .choose([("data/per_channel", "one"), self.tracking.choice()])
    }
}

impl fmt::Display for Finalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} channels a workgroup{}", self.channels_per_workgroup, self.tracking.name())
    }
}

/// Normalises every element, then scales and shifts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Normalize {
    /// How x is visited.
    pub walk: Walk,
    /// Which statistics are used.
    pub statistics: Statistics,
    /// How y is written.
    pub output: Output,
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
}

impl Variant for Normalize {
    fn source(&self) -> Source {
        Source::new("normalize", Lanes::Alone, self.workgroup_size)
            .walk(self.walk)
            .choose([self.statistics.choice()])
            .output(self.output, self.walk.width())
    }
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}{}", self.walk, self.statistics.name(), self.output)
    }
}

/// The forward pass with batch statistics in one dispatch: every channel is one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForwardChannel {
    /// How x is visited: not [`Walk::Ragged`], since the statistics of a neighbouring channel are not known.
    /// [`Walk::Columns`] goes with [`Lanes::Alone`] and only with that.
    pub walk: Walk,
    /// How lanes merge.
    pub lanes: Lanes,
    /// How y is written.
    pub output: Output,
    /// Whether there are running statistics to move.
    pub tracking: Tracking,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl Variant for ForwardChannel {
    fn source(&self) -> Source {
        Source::new("forward_channel", self.lanes, self.workgroup_size)
            .walk(self.walk)
            .choose([self.tracking.choice()])
            .output(self.output, self.walk.width())
    }
}

impl fmt::Display for ForwardChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}{}{}", self.walk, self.lanes, self.output, self.tracking.name())
    }
}

/// The forward pass with batch statistics in one dispatch that reads x once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForwardHeld {
    /// How a workgroup holds its channels.
    pub held: Held,
    /// How y is written.
    pub output: Output,
    /// Whether there are running statistics to move.
    pub tracking: Tracking,
}

impl Variant for ForwardHeld {
    fn source(&self) -> Source {
        Source::held("forward_held", &self.held)
            .choose([self.tracking.choice()])
            .output(self.output, self.held.places.width())
    }
}

impl fmt::Display for ForwardHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.held, self.output, self.tracking.name())
    }
}
impl Variant for CountBatch {
    fn source(&self) -> Source {
        Source {
            stem: "count_batch",
            workgroup_size: 1,
            lanes: Lanes::Alone,
            channels_at_once: 1,
            in_place: false,
            constants: vec![],
            choices: vec![],
        }
    }
}

impl fmt::Display for CountBatch {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
