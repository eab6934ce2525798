use super::normalize::{normal_bindings, normal_pieces};
use super::{Access, Binding, Held, Source, Tracking};
use std::fmt;

/// The forward pass with batch statistics in one dispatch that reads x once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForwardHeld {
    /// How a workgroup holds its channels.
    pub held: Held,
    /// Whether y overwrites x.
    pub in_place: bool,
    /// Whether there are weight and bias.
    pub affine: bool,
    /// Whether there are running statistics to move.
    pub tracking: Tracking,
}

impl ForwardHeld {
    pub(super) fn source(&self) -> Source {
        let mut bindings = vec![(Binding::Params, Access::Uniform), (Binding::Statistics, Access::ReadWrite)];
        bindings.extend(normal_bindings(self.in_place, self.affine));
        bindings.extend(self.tracking.bindings());
        let mut pieces = vec!["params", "compensated", "statistics_type", "moments_type"];
        pieces.extend(self.held.pieces());
        pieces.push("conclude_forward");
        pieces.extend(self.tracking.pieces());
        pieces.extend(normal_pieces(self.in_place, self.affine));
        Source { stem: "forward_held", constants: self.held.constants(), pieces, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for held in Held::every_variant(workgroup_size, subgroup_sizes) {
            for tracking in Tracking::ALL {
                for (in_place, affine) in [(false, false), (false, true), (true, false), (true, true)] {
                    variants.push(Self { held, in_place, affine, tracking });
                }
            }
        }
        variants
    }
}

impl fmt::Display for ForwardHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let affine = if self.affine { ", affine" } else { "" };
        let in_place = if self.in_place { ", in place" } else { "" };
        write!(f, "{}{affine}{in_place}{}", self.held, self.tracking.name())
    }
}
