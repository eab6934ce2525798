use super::{Access, Binding, Lanes, Source, Statistics, Walk, choose};
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
    /// values, where dx is the small difference of large numbers. Only with batch statistics, and where all
    /// that an invocation computes at once is of different channels.
    pub exact_products: bool,
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
}

/// x (where it is `needed`), dy, dx and weight: what is bound by kernels that compute dx.
pub(super) fn gradient_bindings(in_place: bool, affine: bool, x: bool) -> Vec<(Binding, Access)> {
    let mut bindings = vec![];
    if !in_place {
        bindings.push((Binding::Dy, Access::Read));
    }
    bindings.push((Binding::Dx, Access::ReadWrite));
    if x {
        bindings.push((Binding::X, Access::Read));
    }
    if affine {
        bindings.push((Binding::Weight, Access::Read));
    }
    bindings
}

/// And the pieces of those that go through batch statistics.
pub(super) fn gradient_pieces(in_place: bool, affine: bool, exact_products: bool) -> [&'static str; 5] {
    [
        "gradient",
        choose(in_place, "dy_dx_in_place", "dy_dx_separate"),
        choose(affine, "weight_on", "weight_off"),
        "deviation_on",
        choose(exact_products, "remaining_exact", "remaining_batch"),
    ]
}

impl BackwardInput {
    pub(super) fn source(&self) -> Source {
        let batch = self.statistics == Statistics::Batch;
        let mut bindings = vec![(Binding::Params, Access::Uniform)];
        bindings.extend(gradient_bindings(self.in_place, self.affine, batch));
        bindings.extend(self.statistics.bindings());
        let mut pieces =
            vec!["params", "compensated", "statistics_type", self.statistics.piece(), "projection_type"];
        pieces.extend(self.walk.pieces());
        if batch {
            bindings.push((Binding::Projections, Access::Read));
            pieces.push("projection_stored");
            pieces.extend(gradient_pieces(self.in_place, self.affine, self.exact_products));
        } else {
            pieces.extend([
                "projection_none",
                "gradient",
                choose(self.in_place, "dy_dx_in_place", "dy_dx_separate"),
                choose(self.affine, "weight_on", "weight_off"),
                "deviation_off",
                "remaining_running",
            ]);
        }
        let constants = Lanes::Alone.constants_with(self.walk, self.workgroup_size);
        Source { stem: "backward_input", constants, pieces, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for walk in Walk::every_variant(workgroup_size) {
            let statistics =
                [(Statistics::Batch, false), (Statistics::Batch, true), (Statistics::Running, false)];
            for (statistics, exact_products) in statistics {
                if exact_products && !walk.has_exact_products() {
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
