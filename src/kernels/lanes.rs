//! How the lanes of a workgroup work together.

use super::PARTIAL_BYTES;
use super::compose::Choice;
use std::fmt;

/// How the lanes of a workgroup that share a channel merge their results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lanes {
    /// No merge: each lane has its own channels.
    Separate,
    /// Merges by halving, through workgroup memory. The workgroup has as many channels, or times four, as a row of
    /// lanes is long; lanes behind each other share them. With rows of one lane, all lanes share a channel.
    Rows {
        /// Lanes of a row.
        across: u32,
    },
    /// Merges by shuffles within subgroups of these sizes, then through workgroup memory.
    Subgroup {
        /// Smallest subgroup that the adapter may use.
        min_size: u32,
        /// Largest subgroup that the adapter may use. It divides the workgroup size.
        max_size: u32,
    },
}

impl Lanes {
    /// Returns the cases of the shader files, including the entry point.
    pub(super) fn choices(self) -> [Choice; 2] {
        match self {
            Self::Separate => [("entry", "plain"), ("lanes", "separate")],
            Self::Rows { .. } => [("entry", "plain"), ("lanes", "rows")],
            Self::Subgroup { .. } => [("entry", "subgroups"), ("lanes", "subgroup")],
        }
    }

    /// Returns the constants of the shader file, and the workgroup size.
    pub(super) fn constants(self, workgroup_size: u32) -> Vec<(&'static str, u32)> {
        let mut constants = vec![("WORKGROUP_SIZE", workgroup_size)];
        match self {
            Self::Separate => {}
            Self::Rows { across } => constants.push(("LANES_ACROSS", across)),
            Self::Subgroup { min_size, max_size } => {
                constants.extend([("MIN_SUBGROUP_SIZE", min_size), ("MAX_SUBGROUP_SIZE", max_size)]);
            }
        }
        constants
    }

    /// Returns the bytes of workgroup memory, if each lane has partial results of `channels` channels.
    pub(crate) fn workgroup_memory(self, workgroup_size: u32, channels: u32) -> u32 {
        let partials = match self {
            Self::Separate => 0,
            Self::Rows { .. } => workgroup_size,
            Self::Subgroup { min_size, .. } => workgroup_size / min_size,
        };
        partials * channels * PARTIAL_BYTES as u32
    }
}

impl fmt::Display for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Separate => f.write_str("a channel each"),
            Self::Rows { across: 1 } => f.write_str("tree"),
            Self::Rows { across } => write!(f, "rows of {across}"),
            Self::Subgroup { min_size, max_size } if min_size == max_size => {
                write!(f, "subgroups of {min_size}")
            }
            Self::Subgroup { min_size, max_size } => write!(f, "subgroups of {min_size} to {max_size}"),
        }
    }
}
