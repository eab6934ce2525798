use super::{Access, Binding, Source, Walk};
use std::fmt;

/// Normalises every element, then scales and shifts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Normalize {
    /// How x is visited.
    pub walk: Walk,
    /// Whether y overwrites x.
    pub in_place: bool,
    /// Whether the running statistics are used instead of the batch's own.
    pub running: bool,
    /// Whether there are weight and bias.
    pub affine: bool,
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
}

impl Normalize {
    pub(super) fn source(&self) -> Source {
        let mut bindings = vec![(Binding::Params, Access::Uniform)];
        if !self.in_place {
            bindings.push((Binding::X, Access::Read));
        }
        bindings.push((Binding::Y, Access::ReadWrite));
        if self.running {
            bindings.extend([(Binding::RunningMean, Access::Read), (Binding::RunningVar, Access::Read)]);
        } else {
            bindings.push((Binding::Statistics, Access::Read));
        }
        if self.affine {
            bindings.extend([(Binding::Weight, Access::Read), (Binding::Bias, Access::Read)]);
        }
        Source {
            stem: "normalize",
            constants: vec![("WORKGROUP_SIZE", self.workgroup_size)],
            pieces: vec![
                "params",
                self.walk.piece(),
                if self.in_place { "x_y_in_place" } else { "x_y_separate" },
                "statistics_type",
                if self.running { "statistics_running" } else { "statistics_batch" },
                if self.affine { "affine_on" } else { "affine_off" },
            ],
            bindings,
        }
    }

    pub(super) fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for walk in [Walk::Planes, Walk::Columns] {
            for bits in 0..8 {
                let [in_place, running, affine] = [1, 2, 4].map(|bit| bits & bit != 0);
                variants.push(Self { walk, in_place, running, affine, workgroup_size });
            }
        }
        variants
    }
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statistics = if self.running { "running" } else { "batch" };
        let affine = if self.affine { ", affine" } else { "" };
        let in_place = if self.in_place { ", in place" } else { "" };
        write!(f, "{}, {statistics} statistics{affine}{in_place}", self.walk.name())
    }
}
