//! Kernels whose workgroups hold whole channels in registers.

use super::compose::Choice;
use super::traversal::vector_choices;
use super::{Lanes, VectorWidth};
use std::fmt;

/// How a workgroup holds channels: every value is loaded by one of its invocations, and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Which loads an invocation has.
    pub layout: TileLayout,
    /// How lanes merge: a tree of as many channels as [`TileLayout::Columns`] has columns, or all lanes together.
    pub lanes: Lanes,
    /// How many loads an invocation has at most, up to [`Tile::MAX_LOADS`].
    pub loads: u32,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

/// Where the values are that a workgroup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileLayout {
    /// inner > 1: all planes of one channel.
    Planes {
        /// What is loaded at once. With [`VectorWidth::Four`], planes are a multiple of four long.
        width: VectorWidth,
    },
    /// inner = 1: columns of single channels, or of four neighbouring ones.
    Columns {
        /// How many channels. With [`VectorWidth::Four`], there are a multiple of four.
        width: VectorWidth,
    },
}

impl TileLayout {
    /// The cases of the shader files.
    fn choices(self) -> Vec<Choice> {
        let (columns, tile) = match self {
            Self::Planes { .. } => (false, "planes"),
            Self::Columns { .. } => (true, "columns"),
        };
        let mut choices = vector_choices(self.width(), columns).to_vec();
        choices.push(("iterate/tile", tile));
        choices
    }

    /// What is loaded at once.
    pub fn width(self) -> VectorWidth {
        match self {
            Self::Planes { width } | Self::Columns { width } => width,
        }
    }

    /// Of how many channels an invocation has partial results.
    pub(super) fn channels_at_once(self) -> u32 {
        match self {
            Self::Planes { .. } => 1,
            Self::Columns { width } => width.elements(),
        }
    }
}

impl Tile {
    /// As many loads as the last case of resident.wgsl visits.
    pub const MAX_LOADS: u32 = 64;

    /// The cases of the shader files.
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

    /// Bytes of workgroup memory.
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
        write!(f, "{kind}, {} × {} held, {}", self.loads, self.layout.width().elements(), self.lanes)
    }
}
