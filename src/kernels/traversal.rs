//! How a kernel visits a tensor.

use super::compose::Choice;
use std::fmt;

/// Neighbouring elements that are loaded at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VectorWidth {
    /// One.
    Scalar,
    /// Four, as a vector. The number of elements and the offset of the tensor are multiples of four elements.
    Four,
    /// Eight of 16 bits, as two vectors, in planes. Their length and the offset of the tensor are multiples of eight
    /// elements. Kernels load four vectors at once.
    Eight,
}

impl VectorWidth {
    /// Returns the number.
    pub fn elements(self) -> u32 {
        match self {
            Self::Scalar => 1,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// Returns the vectors that are loaded at once.
    pub fn vectors(self) -> u32 {
        if self == Self::Eight { 2 } else { 1 }
    }

    /// Returns the elements of a vector.
    pub(crate) fn of_vector(self) -> u32 {
        self.elements() / self.vectors()
    }
}

/// Returns the cases for what an invocation computes at once, of one channel or of neighbouring channels.
fn vector_choices(width: VectorWidth, columns: bool) -> [Choice; 2] {
    match (width, columns) {
        (VectorWidth::Scalar, _) => [("data/per_channel", "one"), ("data/vector", "scalar")],
        (_, false) => [("data/per_channel", "one"), ("data/vector", "four_elements")],
        (_, true) => [("data/per_channel", "four"), ("data/vector", "four_channels")],
    }
}

/// How a tensor's elements are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Traversal {
    /// inner > 1: a workgroup visits one split of one channel's planes, whose length is a multiple of a load's.
    Planes {
        /// Elements per load.
        width: VectorWidth,
    },
    /// The same with loads of four, for planes of at least four elements, but not a multiple of four. Loads at a
    /// plane's ends reach into its neighbours.
    PlanesMasked,
    /// inner = 1: an invocation visits rows at equal distances, in columns of one channel or of four neighbouring ones.
    Columns {
        /// Channels per column.
        width: VectorWidth,
        /// Columns per lane, one workgroup apart. More than one gives longer contiguous reads.
        columns_per_lane: u32,
    },
    /// inner = 1, for reductions and for kernels that merge partial results: the lanes of a workgroup lie in the rows of
    /// [`Lanes::Rows`](super::Lanes::Rows), and the lanes of one column merge.
    ColumnBlocks {
        /// Channels per column.
        width: VectorWidth,
    },
}

impl Traversal {
    /// Returns the cases of the shader files.
    pub(super) fn choices(self) -> Vec<Choice> {
        let traversal = match self {
            Self::Planes { .. } => "planes",
            Self::PlanesMasked => "planes_masked",
            Self::Columns { .. } => "columns",
            Self::ColumnBlocks { .. } => "column_blocks",
        };
        let mut choices = vector_choices(self.width(), self.is_columns()).to_vec();
        choices.push(("iterate/traversal", traversal));
        choices
    }

    /// Returns the number of channels for which a lane has partial results.
    pub(crate) fn channels_at_once(self) -> u32 {
        if self.is_columns() { self.width().elements() } else { 1 }
    }

    /// Returns the elements per load.
    pub fn width(self) -> VectorWidth {
        match self {
            Self::Planes { width } | Self::Columns { width, .. } | Self::ColumnBlocks { width } => width,
            Self::PlanesMasked => VectorWidth::Four,
        }
    }

    /// Checks whether an invocation visits columns: one element of each channel in a load.
    pub fn is_columns(self) -> bool {
        matches!(self, Self::Columns { .. } | Self::ColumnBlocks { .. })
    }

    /// Returns the case in which every workgroup merges the partial results of its channels.
    pub(super) fn merge(self) -> Choice {
        ("iterate/partials", if self.is_columns() { "by_column" } else { "by_workgroup" })
    }

    /// Returns the constants of the shader files.
    pub(super) fn constants(self) -> Vec<(&'static str, u32)> {
        let mut constants = vec![("VECTORS_PER_LOAD", self.width().vectors())];
        if let Self::Columns { columns_per_lane, .. } = self {
            constants.push(("COLUMNS_PER_LANE", columns_per_lane));
        }
        constants
    }
}

impl fmt::Display for Traversal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planes { width } => write!(f, "planes by {}", width.elements()),
            Self::PlanesMasked => f.write_str("masked planes by 4"),
            Self::Columns { width, columns_per_lane: 1 } => write!(f, "columns by {}", width.elements()),
            Self::Columns { width, columns_per_lane } => {
                write!(f, "columns by {}, {columns_per_lane} a lane", width.elements())
            }
            Self::ColumnBlocks { width } => write!(f, "column blocks by {}", width.elements()),
        }
    }
}
