use super::{Access, Binding, Lanes, Source, Statistics, Walk, Width, choose};
use std::fmt;

/// Computes dx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardInput {
    /// How the tensors are visited.
    pub walk: Walk,
    /// Whether dx overwrites dy.
    pub in_place: bool,
    /// Which statistics the forward pass used: through those of the batch, gradient flows; then x is read.
    pub statistics: Statistics,
    /// Whether there is a weight.
    pub affine: bool,
    /// Whether the product of slope and deviation keeps what rounding would lose: for channels of few
    /// values, where dx is the small difference of large numbers. Only with batch statistics and
    /// [`Width::One`].
    pub exact_products: bool,
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
}

impl BackwardInput {
    pub(super) fn source(&self) -> Source {
        let batch = self.statistics == Statistics::Batch;
        let mut bindings = vec![(Binding::Params, Access::Uniform), (Binding::Dx, Access::ReadWrite)];
        if !self.in_place {
            bindings.push((Binding::Dy, Access::Read));
        }
        bindings.extend(self.statistics.bindings());
        if batch {
            bindings.extend([(Binding::X, Access::Read), (Binding::Projections, Access::Read)]);
        }
        if self.affine {
            bindings.push((Binding::Weight, Access::Read));
        }
        let mut pieces = vec![
            "params",
            "compensated",
            self.walk.width().piece(),
            self.walk.piece(),
            choose(self.in_place, "dy_dx_in_place", "dy_dx_separate"),
            "statistics_type",
            self.statistics.piece(),
            "projection_type",
        ];
        if batch {
            pieces.push("deviation_on");
        }
        pieces.push(match (batch, self.exact_products) {
            (true, true) => "remaining_exact",
            (true, false) => "remaining_batch",
            (false, _) => "remaining_running",
        });
        pieces.push(choose(self.affine, "weight_on", "weight_off"));
        let constants = Lanes::Alone.constants_with(self.walk, self.workgroup_size);
        Source { stem: "backward_input", constants, pieces, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for walk in Walk::every_variant(workgroup_size) {
            let statistics =
                [(Statistics::Batch, false), (Statistics::Batch, true), (Statistics::Running, false)];
            for (statistics, exact_products) in statistics {
                if exact_products && walk.width() == Width::Four {
                    continue;
                }
                for (in_place, affine) in [(false, false), (false, true), (true, false), (true, true)] {
                    variants.push(Self {
                        walk,
                        in_place,
                        statistics,
                        affine,
                        exact_products,
                        workgroup_size,
                    });
                }
            }
        }
        variants
    }
}

impl fmt::Display for BackwardInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let affine = if self.affine { ", weight" } else { "" };
        let in_place = if self.in_place { ", in place" } else { "" };
        let exact = if self.exact_products { ", exact products" } else { "" };
        write!(f, "{}, {}{affine}{exact}{in_place}", self.walk, self.statistics.name())
    }
}
