use super::{Access, Binding, Lanes, Source, Walk};
use std::fmt;

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
        Source {
            stem: "moments",
            constants: self.lanes.constants_with(self.walk, self.workgroup_size),
            pieces: vec![
                "params",
                "compensated",
                self.walk.width().piece(),
                "moments_type",
                self.lanes.piece(),
                self.walk.piece(),
                "x_only",
            ],
            bindings: vec![
                (Binding::Params, Access::Uniform),
                (Binding::X, Access::Read),
                (Binding::Partials, Access::ReadWrite),
            ],
        }
    }

    pub(super) fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let variants = Lanes::every_variant(workgroup_size, subgroup_sizes);
        variants.into_iter().map(|(walk, lanes)| Self { walk, lanes, workgroup_size }).collect()
    }
}

impl fmt::Display for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.walk, self.lanes)
    }
}
