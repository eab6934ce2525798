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

/// x, y, weight and bias: what is bound by kernels that normalise.
pub(super) fn normal_bindings(in_place: bool, affine: bool) -> Vec<(Binding, Access)> {
    let mut bindings = vec![];
    if !in_place {
        bindings.push((Binding::X, Access::Read));
    }
    bindings.push((Binding::Y, Access::ReadWrite));
    if affine {
        bindings.extend([(Binding::Weight, Access::Read), (Binding::Bias, Access::Read)]);
    }
    bindings
}

/// And the pieces that bind it.
pub(super) fn normal_pieces(in_place: bool, affine: bool) -> [&'static str; 4] {
    [
        "normal",
        choose(in_place, "x_y_in_place", "x_y_separate"),
        choose(affine, "weight_on", "weight_off"),
        choose(affine, "bias_on", "bias_off"),
    ]
}

impl Normalize {
    pub(super) fn source(&self) -> Source {
        let mut bindings = vec![(Binding::Params, Access::Uniform)];
        bindings.extend(normal_bindings(self.in_place, self.affine));
        bindings.extend(self.statistics.bindings());
        let mut pieces = vec!["params", "compensated", "statistics_type", self.statistics.piece()];
        pieces.extend(self.walk.pieces());
        pieces.extend(normal_pieces(self.in_place, self.affine));
        let constants = Lanes::Alone.constants_with(self.walk, self.workgroup_size);
        Source { stem: "normalize", constants, pieces, bindings }
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
