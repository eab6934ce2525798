use super::backward_input::{gradient_bindings, gradient_pieces};
use super::{Access, Binding, ChannelGradients, Held, Source, Statistics};
use std::fmt;

/// The backward pass through batch statistics in one dispatch that reads x and dy once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardHeld {
    /// How a workgroup holds its channels.
    pub held: Held,
    /// Whether dx overwrites dy.
    pub in_place: bool,
    /// Whether there is a weight.
    pub affine: bool,
    /// Whether dweight is wanted.
    pub dweight: bool,
    /// Whether dbias is wanted.
    pub dbias: bool,
    /// As in [`BackwardInput`](super::BackwardInput).
    pub exact_products: bool,
}

impl BackwardHeld {
    fn gradients(&self) -> ChannelGradients {
        ChannelGradients { weight: self.dweight, bias: self.dbias, projection: false }
    }

    pub(super) fn source(&self) -> Source {
        let mut bindings = vec![(Binding::Params, Access::Uniform)];
        bindings.extend(gradient_bindings(self.in_place, self.affine, true));
        bindings.extend(Statistics::Batch.bindings());
        bindings.extend(self.gradients().bindings());
        let statistics = Statistics::Batch.piece();
        let mut pieces = vec!["params", "compensated", "statistics_type", statistics, "sums_type"];
        pieces.extend(self.held.pieces());
        pieces.extend(self.gradients().pieces());
        pieces.extend(gradient_pieces(self.in_place, self.affine, self.exact_products));
        Source { stem: "backward_held", constants: self.held.constants(), pieces, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for held in Held::every_variant(workgroup_size, subgroup_sizes) {
            for bits in 0..8 {
                let [in_place, dweight, dbias] = [1, 2, 4].map(|bit| bits & bit != 0);
                let exact_products = held.places.has_exact_products() && dweight;
                let affine = dweight || dbias || in_place;
                variants.push(Self { held, in_place, affine, dweight, dbias, exact_products });
            }
        }
        variants
    }
}

impl fmt::Display for BackwardHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let affine = if self.affine { ", weight" } else { "" };
        let in_place = if self.in_place { ", in place" } else { "" };
        let exact = if self.exact_products { ", exact products" } else { "" };
        write!(f, "{}{affine}{exact}{in_place}{}", self.held, self.gradients())
    }
}
