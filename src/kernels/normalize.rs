use super::{Access, Binding, Lanes, Source, Statistics, Walk, choose};
use std::fmt;

/// Normalises every element, then scales and shifts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Normalize {
    /// How x is visited.
    pub walk: Walk,
    /// Whether y overwrites x.
    pub in_place: bool,
    /// Which statistics are used.
    pub statistics: Statistics,
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
        bindings.extend(self.statistics.bindings());
        if self.affine {
            bindings.extend([(Binding::Weight, Access::Read), (Binding::Bias, Access::Read)]);
        }
        Source {
            stem: "normalize",
            constants: Lanes::Alone.constants_with(self.walk, self.workgroup_size),
            pieces: vec![
                "params",
                "compensated",
                self.walk.width().piece(),
                self.walk.piece(),
                choose(self.in_place, "x_y_in_place", "x_y_separate"),
                "statistics_type",
                self.statistics.piece(),
                choose(self.affine, "weight_on", "weight_off"),
                choose(self.affine, "bias_on", "bias_off"),
            ],
            bindings,
        }
    }

    pub(super) fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for walk in Walk::every_variant(workgroup_size) {
            for statistics in [Statistics::Batch, Statistics::Running] {
                for (in_place, affine) in [(false, false), (false, true), (true, false), (true, true)] {
                    variants.push(Self { walk, in_place, statistics, affine, workgroup_size });
                }
            }
        }
        variants
    }
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let affine = if self.affine { ", affine" } else { "" };
        let in_place = if self.in_place { ", in place" } else { "" };
        write!(f, "{}, {}{affine}{in_place}", self.walk, self.statistics.name())
    }
}
