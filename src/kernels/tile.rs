//! Tiles: workgroups that hold whole channels in registers.

use super::{Lanes, Traversal};
use std::fmt;

/// How a workgroup holds channels: one of its lanes loads each value and keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// The loads of a lane: [`Traversal::Planes`] or [`Traversal::ColumnBlocks`].
    pub traversal: Traversal,
    /// How lanes merge.
    pub lanes: Lanes,
    /// Most loads of a lane, up to [`Tile::MAX_VECTORS`] vectors.
    pub loads: u32,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl Tile {
    /// The number of vectors that the last case of resident.wgsl visits.
    pub const MAX_VECTORS: u32 = 64;

    /// Returns the vectors that a lane keeps of each tensor.
    pub(crate) fn vectors(&self) -> u32 {
        self.loads * self.traversal.width().vectors()
    }

    /// Returns the case of resident.wgsl.
    pub(super) fn case(&self) -> &'static str {
        match self.vectors() {
            0..=4 => "up_to_4",
            5..=16 => "up_to_16",
            _ => "up_to_64",
        }
    }

    /// Returns the bytes of workgroup memory.
    pub(crate) fn workgroup_memory(&self) -> u32 {
        self.lanes.workgroup_memory(self.workgroup_size, self.traversal.channels_at_once())
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, tile of {}, {}", self.traversal, self.loads, self.lanes)
    }
}
