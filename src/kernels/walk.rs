//! How a kernel goes over a tensor.

use std::fmt;

/// How many neighbouring elements are loaded and computed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// One.
    One,
    /// Four, as a vector: planes are a multiple of four long, and tensors begin at a multiple of 16 bytes.
    Four,
}

impl Width {
    /// The number.
    pub fn elements(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Four => 4,
        }
    }

    /// The WGSL piece.
    pub(super) fn piece(self) -> &'static str {
        match self {
            Self::One => "value_f32",
            Self::Four => "value_vec4",
        }
    }
}

/// How a tensor's elements are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Walk {
    /// inner > 1: a workgroup takes one split of one channel's planes.
    Planes {
        /// Lanes that walk along one plane, a power of two that divides the workgroup size.
        lanes: u32,
        /// What each of them takes at once.
        width: Width,
    },
    /// inner = 1: an invocation takes every so many rows of one channel.
    Columns,
}

impl Walk {
    /// The WGSL piece.
    pub(super) fn piece(self) -> &'static str {
        match self {
            Self::Planes { .. } => "walk_planes",
            Self::Columns => "walk_columns",
        }
    }

    /// What is loaded at once.
    pub fn width(self) -> Width {
        match self {
            Self::Planes { width, .. } => width,
            Self::Columns => Width::One,
        }
    }

    /// The ways to visit every element, for tests.
    pub(super) fn every_variant(workgroup_size: u32) -> [Self; 4] {
        [
            Self::Planes { lanes: workgroup_size, width: Width::One },
            Self::Planes { lanes: workgroup_size, width: Width::Four },
            Self::Planes { lanes: 2, width: Width::One },
            Self::Columns,
        ]
    }

    /// The constants of the piece.
    pub(super) fn constants(self) -> Vec<(&'static str, u32)> {
        match self {
            Self::Planes { lanes, .. } => vec![("LANES_PER_PLANE", lanes)],
            Self::Columns => vec![],
        }
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planes { lanes, width } => write!(f, "planes by {lanes} × {}", width.elements()),
            Self::Columns => f.write_str("columns"),
        }
    }
}
