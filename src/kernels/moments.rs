use super::{Access, Binding, Source, Walk};
use std::fmt;

/// How the lanes of a workgroup that share a channel merge their results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lanes {
    /// They do not share one: each lane has a channel of its own.
    Alone,
    /// By halving, through workgroup memory.
    Tree,
    /// By shuffles within subgroups of these sizes, then through workgroup memory.
    Subgroup {
        /// Smallest subgroup the adapter may use.
        min_size: u32,
        /// Largest subgroup the adapter may use; divides the workgroup size.
        max_size: u32,
    },
}

/// Reduces x to partial moments: one per channel and split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moments {
    /// How x is visited. [`Walk::Columns`] goes with [`Lanes::Alone`] and only with that.
    pub walk: Walk,
    /// How lanes merge.
    pub lanes: Lanes,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl Moments {
    pub(super) fn source(&self) -> Source {
        let mut constants = vec![("WORKGROUP_SIZE", self.workgroup_size)];
        let lanes = match self.lanes {
            Lanes::Alone => "lanes_alone",
            Lanes::Tree => {
                constants.push(("CHANNELS_PER_WORKGROUP", 1));
                "lanes_tree"
            }
            Lanes::Subgroup { min_size, max_size } => {
                constants.extend([("MIN_SUBGROUP_SIZE", min_size), ("MAX_SUBGROUP_SIZE", max_size)]);
                "lanes_subgroup"
            }
        };
        Source {
            stem: "moments",
            constants,
            pieces: vec!["params", "moments_type", lanes, self.walk.piece(), "x_only"],
            bindings: vec![
                (Binding::Params, Access::Uniform),
                (Binding::X, Access::Read),
                (Binding::Partials, Access::ReadWrite),
            ],
        }
    }

    pub(super) fn every_variant(workgroup_size: u32, (min_size, max_size): (u32, u32)) -> Vec<Self> {
        let variants = [
            (Walk::Planes, Lanes::Tree),
            (Walk::Planes, Lanes::Subgroup { min_size, max_size }),
            (Walk::Columns, Lanes::Alone),
        ];
        variants.into_iter().map(|(walk, lanes)| Self { walk, lanes, workgroup_size }).collect()
    }
}

impl fmt::Display for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.walk.name())?;
        match self.lanes {
            Lanes::Alone => Ok(()),
            Lanes::Tree => f.write_str(", tree"),
            Lanes::Subgroup { min_size, max_size } if min_size == max_size => {
                write!(f, ", subgroups of {min_size}")
            }
            Lanes::Subgroup { min_size, max_size } => {
                write!(f, ", subgroups of {min_size} to {max_size}")
            }
        }
    }
}
