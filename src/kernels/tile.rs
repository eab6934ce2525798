//! Tiles: workgroups that hold whole channels in registers.

use super::compose::Choice;
use super::traversal::vector_choices;
use super::{Lanes, VectorWidth};
use std::fmt;

/// How a workgroup holds channels: one of its lanes loads each value and keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// The loads of a lane.
    pub layout: TileLayout,
    /// How lanes merge: with [`TileLayout::Columns`], in a tree of as many channels as columns; else all together.
    pub lanes: Lanes,
    /// Most loads of a lane, up to [`Tile::MAX_LOADS`].
    pub loads: u32,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

/// Where the values of a tile are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileLayout {
    /// inner > 1: all planes of one channel.
    Planes {
        /// Elements per load. With [`VectorWidth::Four`], the length of planes is a multiple of four.
        width: VectorWidth,
    },
    /// inner = 1: columns of single channels, or of four neighbouring channels.
    Columns {
        /// Channels per load. With [`VectorWidth::Four`], their number in all is a multiple of four.
        width: VectorWidth,
    },
}

impl TileLayout {
    /// Returns the cases of the shader files.
    fn choices(self) -> Vec<Choice> {
        let (columns, tile) = match self {
            Self::Planes { .. } => (false, "planes"),
            Self::Columns { .. } => (true, "columns"),
        };
        let mut choices = vector_choices(self.width(), columns).to_vec();
        choices.push(("iterate/tile", tile));
        choices
    }

    /// Returns the elements per load.
    pub fn width(self) -> VectorWidth {
        match self {
            Self::Planes { width } | Self::Columns { width } => width,
        }
    }

    /// Returns the number of channels for which a lane has partial results.
    pub(super) fn channels_at_once(self) -> u32 {
        match self {
            Self::Planes { .. } => 1,
            Self::Columns { width } => width.elements(),
        }
    }
}

impl Tile {
    /// The number of loads that the last case of resident.wgsl visits.
    pub const MAX_LOADS: u32 = 64;

    /// Returns the cases of the shader files.
    pub(super) fn choices(&self) -> Vec<Choice> {
        let resident = match self.loads {
            0..=4 => "up_to_4",
            5..=16 => "up_to_16",
            _ => "up_to_64",
        };
        let mut choices = self.layout.choices();
        choices.push(("iterate/resident", resident));
        choices
    }

    /// Returns the bytes of workgroup memory.
    pub(crate) fn workgroup_memory(&self) -> u32 {
        self.lanes.workgroup_memory(self.workgroup_size, self.layout.channels_at_once())
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.layout {
            TileLayout::Planes { .. } => "planes",
            TileLayout::Columns { .. } => "columns",
        };
        write!(f, "{kind}, tile of {} × {}, {}", self.loads, self.layout.width().elements(), self.lanes)
    }
}
