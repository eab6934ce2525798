use super::normalize::{normal_bindings, normal_pieces};
use super::{Access, Binding, Lanes, Source, Tracking, Walk};
use std::fmt;

/// The forward pass with batch statistics in one dispatch: every channel is one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForwardChannel {
    /// How x is visited: not [`Walk::Ragged`], since the statistics of a neighbouring channel are not known.
    /// [`Walk::Columns`] goes with [`Lanes::Alone`] and only with that.
    pub walk: Walk,
    /// How lanes merge.
    pub lanes: Lanes,
    /// Whether y overwrites x.
    pub in_place: bool,
    /// Whether there are weight and bias.
    pub affine: bool,
    /// Whether there are running statistics to move.
    pub tracking: Tracking,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl ForwardChannel {
    pub(super) fn source(&self) -> Source {
        let mut bindings = vec![(Binding::Params, Access::Uniform), (Binding::Statistics, Access::ReadWrite)];
        bindings.extend(normal_bindings(self.in_place, self.affine));
        bindings.extend(self.tracking.bindings());
        let mut pieces = vec!["params", "compensated", "statistics_type", "moments_type", "moments_of"];
        pieces.extend(self.walk.pieces());
        pieces.extend([self.lanes.piece(), "conclude_forward"]);
        pieces.extend(self.tracking.pieces());
        pieces.extend(normal_pieces(self.in_place, self.affine));
        let constants = self.lanes.constants_with(self.walk, self.workgroup_size);
        Source { stem: "forward_channel", constants, pieces, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (walk, lanes) in Lanes::every_variant(workgroup_size, subgroup_sizes) {
            if matches!(walk, Walk::Ragged { .. }) {
                continue;
            }
            for tracking in Tracking::ALL {
                for (in_place, affine) in [(false, false), (false, true), (true, false), (true, true)] {
                    variants.push(Self { walk, lanes, in_place, affine, tracking, workgroup_size });
                }
            }
        }
        variants
    }
}

impl fmt::Display for ForwardChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let affine = if self.affine { ", affine" } else { "" };
        let in_place = if self.in_place { ", in place" } else { "" };
        write!(f, "{}, {}{affine}{in_place}{}", self.walk, self.lanes, self.tracking.name())
    }
}
