use super::{Access, Binding, Lanes, Source, Statistics, Walk, choose};
use std::fmt;

/// Reduces dy and x to partial sums of dy and of dy · (x − mean): one of each per channel and split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardSums {
    /// How dy and x are visited. [`Walk::Columns`] goes with [`Lanes::Alone`] and only with that.
    pub walk: Walk,
    /// How lanes merge.
    pub lanes: Lanes,
    /// Where the mean comes from. With [`Statistics::None`], x is not read, and only dy is summed.
    pub statistics: Statistics,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl BackwardSums {
    pub(super) fn source(&self) -> Source {
        let needs_x = self.statistics != Statistics::None;
        let mut bindings = vec![(Binding::Params, Access::Uniform), (Binding::Dy, Access::Read)];
        if needs_x {
            bindings.push((Binding::X, Access::Read));
        }
        bindings.extend(self.statistics.bindings());
        bindings.push((Binding::Partials, Access::ReadWrite));
        Source {
            stem: "backward_sums",
            constants: self.lanes.constants_with(self.walk, self.workgroup_size),
            pieces: vec![
                "params",
                "compensated",
                self.walk.width().piece(),
                "sums_type",
                self.lanes.piece(),
                self.walk.piece(),
                "dy_only",
                "statistics_type",
                self.statistics.piece(),
                choose(needs_x, "deviation_on", "deviation_off"),
            ],
            bindings,
        }
    }

    pub(super) fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (walk, lanes) in Lanes::every_variant(workgroup_size, subgroup_sizes) {
            for statistics in [Statistics::Batch, Statistics::Running, Statistics::None] {
                variants.push(Self { walk, lanes, statistics, workgroup_size });
            }
        }
        variants
    }
}

impl fmt::Display for BackwardSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.walk, self.lanes, self.statistics.name())
    }
}
