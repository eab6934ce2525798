//! The kernels of the forward pass.

use super::compose::Choice;
use super::{
    Lanes, Output, RunningUpdate, Source, Statistics, Storage, Tile, Traversal, VECTORS_AT_ONCE, Variant,
};
use std::fmt;

/// Adds 1 to `num_batches_tracked`. Uses one invocation and no uniform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CountBatch;

/// Reduces x to the moments of every channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moments {
    /// How x is visited. [`Traversal::Columns`] requires [`Lanes::Separate`], and vice versa.
    pub traversal: Traversal,
    /// How lanes merge.
    pub lanes: Lanes,
    /// How x is stored.
    pub storage: Storage,
    /// The use of the moments.
    pub result: MomentsResult,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

/// The use of a split's moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MomentsResult {
    /// Stores them as a partial result.
    Partials,
    /// Computes the statistics of the channel, which is one split, and updates the running statistics.
    Statistics(RunningUpdate),
}

impl Variant for Moments {
    fn source(&self) -> Source {
        let result: &[Choice] = match self.result {
            MomentsResult::Partials => &[("split_result", "partial")],
            MomentsResult::Statistics(running) => &[("split_result", "statistics"), running.choice()],
        };
        Source::new("moments", self.lanes, self.workgroup_size)
            .traversal(self.traversal)
            .constants([VECTORS_AT_ONCE])
            .choose(self.storage.choices(self.traversal.width()))
            .choose([("tensors/x", "read")])
            .choose(result.iter().copied())
    }
}

impl fmt::Display for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}{}", self.traversal, self.lanes, self.storage.name())?;
        match self.result {
            MomentsResult::Partials => f.write_str(", partials"),
            MomentsResult::Statistics(running) => f.write_str(running.name()),
        }
    }
}

/// Merges partial moments into statistics, and updates the running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Finalize {
    /// How the running statistics are updated.
    pub running: RunningUpdate,
    /// Channels per workgroup, a power of two. The lanes of a channel share its splits.
    pub channels_per_workgroup: u32,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl Variant for Finalize {
    fn source(&self) -> Source {
        let lanes = Lanes::Rows { across: self.channels_per_workgroup };
        Source::new("finalize", lanes, self.workgroup_size).choose([
            ("data/per_channel", "one"),
            ("iterate/partials", "by_channel"),
            self.running.choice(),
        ])
    }
}

impl fmt::Display for Finalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} channels a workgroup{}", self.channels_per_workgroup, self.running.name())
    }
}

/// Normalises every element, then scales and shifts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Normalize {
    /// How x is visited.
    pub traversal: Traversal,
    /// The statistics to use.
    pub statistics: Statistics,
    /// If each workgroup merges the partial moments of its channels: how its lanes do, and how the running statistics
    /// are updated. Not with [`Traversal::Columns`].
    pub merge: Option<(Lanes, RunningUpdate)>,
    /// How y is written.
    pub output: Output,
    /// Vectors that a lane loads before it uses the first: 1 or 4. With two vectors a load, 4.
    pub vectors_at_once: u32,
    /// Whether the last workgroups come first, since a reduction has left their elements in a cache.
    pub reversed: bool,
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
}

impl Variant for Normalize {
    fn source(&self) -> Source {
        let (lanes, running) = self.merge.unzip();
        let source = Source::new("normalize", lanes.unwrap_or(Lanes::Separate), self.workgroup_size)
            .traversal(self.traversal)
            .constants([("VECTORS_AT_ONCE", self.vectors_at_once), ("REVERSED", self.reversed.into())]);
        let source = match running {
            None => source.choose([self.statistics.choice()]),
            Some(running) => {
                source.choose([("statistics/source", "merged"), self.traversal.merge(), running.choice()])
            }
        };
        source.output(self.output, self.traversal.width())
    }
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last_first = if self.reversed { ", last first" } else { "" };
        write!(f, "{}, ", self.traversal)?;
        match self.merge {
            None => f.write_str(self.statistics.name())?,
            Some((lanes, running)) => write!(f, "merged moments, {lanes}{}", running.name())?,
        }
        write!(f, "{}{last_first}", self.output)
    }
}

/// The forward pass with batch statistics in one dispatch: every channel is one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForwardOneDispatch {
    /// How x is visited. Not by [`Traversal::PlanesMasked`], since the statistics of a neighbouring channel are
    /// unknown. [`Traversal::Columns`] requires [`Lanes::Separate`], and vice versa.
    pub traversal: Traversal,
    /// How lanes merge.
    pub lanes: Lanes,
    /// How y is written.
    pub output: Output,
    /// How the running statistics are updated.
    pub running: RunningUpdate,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl Variant for ForwardOneDispatch {
    fn source(&self) -> Source {
        Source::new("forward_one_dispatch", self.lanes, self.workgroup_size)
            .traversal(self.traversal)
            .constants([VECTORS_AT_ONCE])
            .choose([self.running.choice()])
            .output(self.output, self.traversal.width())
    }
}

impl fmt::Display for ForwardOneDispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}{}{}", self.traversal, self.lanes, self.output, self.running.name())
    }
}

/// The forward pass with batch statistics in one dispatch that reads x once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForwardResident {
    /// The loads that each lane keeps in registers.
    pub tile: Tile,
    /// How y is written.
    pub output: Output,
    /// How the running statistics are updated.
    pub running: RunningUpdate,
}

impl Variant for ForwardResident {
    fn source(&self) -> Source {
        Source::resident("forward_resident", &self.tile)
            .choose([self.running.choice()])
            .output(self.output, self.tile.traversal.width())
    }
}

impl fmt::Display for ForwardResident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.tile, self.output, self.running.name())
    }
}

impl Variant for CountBatch {
    fn source(&self) -> Source {
        Source::new("count_batch", Lanes::Separate, 1)
    }
}

impl fmt::Display for CountBatch {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
