//! How a kernel goes over a tensor.

use super::compose::Choice;
use std::fmt;

/// How many neighbouring elements are loaded and computed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VectorWidth {
    /// One.
    Scalar,
    /// Four, as a vector. The tensor has a multiple of four elements and begins at a multiple of 16 bytes.
    Four,
}

impl VectorWidth {
    /// The number.
    pub fn elements(self) -> u32 {
        match self {
            Self::Scalar => 1,
            Self::Four => 4,
        }
    }
}

/// What an invocation computes at once, of one channel or of several neighbouring ones.
pub(super) fn vector_choices(width: VectorWidth, columns: bool) -> [Choice; 2] {
    match (width, columns) {
        (VectorWidth::Scalar, _) => [("data/per_channel", "one"), ("data/vector", "scalar")],
        (VectorWidth::Four, false) => [("data/per_channel", "one"), ("data/vector", "four_elements")],
        (VectorWidth::Four, true) => [("data/per_channel", "four"), ("data/vector", "four_channels")],
    }
}

/// How a tensor's elements are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Traversal {
    /// inner > 1: a workgroup takes one split of one channel's planes. With [`VectorWidth::Four`], planes are a
    /// multiple of four long.
    Planes {
        /// Lanes that go along one plane, a power of two that divides the workgroup size.
        lanes: u32,
        /// What each of them takes at once.
        width: VectorWidth,
    },
    /// The same by four where planes, four or more long, are not a multiple of four: loads at a plane's ends
    /// reach into its neighbours.
    PlanesMasked {
        /// Lanes that go along one plane, a power of two that divides the workgroup size.
        lanes: u32,
    },
    /// inner = 1: an invocation takes every so many rows of one channel, or of four neighbouring ones.
    Columns {
        /// How many channels.
        width: VectorWidth,
        /// Columns per lane, one workgroup apart. More than one gives longer contiguous reads.
        columns_per_lane: u32,
    },
}

impl Traversal {
    /// The cases of the shader files.
    pub(super) fn choices(self) -> Vec<Choice> {
        let traversal = match self {
            Self::Planes { .. } => "planes",
            Self::PlanesMasked { .. } => "planes_masked",
            Self::Columns { .. } => "columns",
        };
        let mut choices = vector_choices(self.width(), self.is_columns()).to_vec();
        choices.push(("iterate/traversal", traversal));
        choices
    }

    /// What is loaded at once.
    pub fn width(self) -> VectorWidth {
        match self {
            Self::Planes { width, .. } | Self::Columns { width, .. } => width,
            Self::PlanesMasked { .. } => VectorWidth::Four,
        }
    }

    /// Whether an invocation keeps to the channel, or the channels, of its own.
    pub fn is_columns(self) -> bool {
        matches!(self, Self::Columns { .. })
    }

    /// The constants of the shader files.
    pub(super) fn constants(self) -> Vec<(&'static str, u32)> {
        match self {
            Self::Planes { lanes, .. } | Self::PlanesMasked { lanes } => vec![("LANES_PER_PLANE", lanes)],
            Self::Columns { columns_per_lane, .. } => vec![("COLUMNS_PER_LANE", columns_per_lane)],
        }
    }
}

impl fmt::Display for Traversal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planes { lanes, width } => write!(f, "planes by {lanes} × {}", width.elements()),
            Self::PlanesMasked { lanes } => write!(f, "masked planes by {lanes} × 4"),
            Self::Columns { width, columns_per_lane: 1 } => write!(f, "columns by {}", width.elements()),
            Self::Columns { width, columns_per_lane } => {
                write!(f, "columns by {}, {columns_per_lane} a lane", width.elements())
            }
        }
    }
}
