//! What follows from the sums of a channel's backward pass.

use super::{Access, Binding, Statistics, choose};
use std::fmt;

/// Which results the backward pass computes per channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelGradients {
    /// dweight.
    pub weight: bool,
    /// dbias.
    pub bias: bool,
    /// What [`BackwardInput`](super::BackwardInput) needs of the sums: where dx is wanted, and batch
    /// statistics were used.
    pub projection: bool,
}

impl ChannelGradients {
    /// The WGSL pieces, all but those that say where statistics come from.
    pub(super) fn pieces(self) -> [&'static str; 6] {
        [
            "conclude_backward",
            choose(self.weight, "dweight_on", "dweight_off"),
            choose(self.bias, "dbias_on", "dbias_off"),
            "projection_type",
            "projection_of",
            choose(self.projection, "projection_on", "projection_off"),
        ]
    }

    /// What the pieces bind.
    pub(super) fn bindings(self) -> impl Iterator<Item = (Binding, Access)> {
        let outputs = [
            (self.weight, Binding::DWeight),
            (self.bias, Binding::DBias),
            (self.projection, Binding::Projections),
        ];
        outputs.into_iter().filter(|(wanted, _)| *wanted).map(|(_, binding)| (binding, Access::ReadWrite))
    }

    /// Every combination in which something is wanted, with the statistics that it can go with.
    pub(super) fn every_variant() -> Vec<(Self, Statistics)> {
        let mut variants = Vec::new();
        for bits in 1..8 {
            let [weight, bias, projection] = [1, 2, 4].map(|bit| bits & bit != 0);
            let statistics: &[_] = match (weight, projection) {
                (_, true) => &[Statistics::Batch],
                // None: of an empty batch, where all gradients are zeros.
                (true, false) => &[Statistics::Batch, Statistics::Running, Statistics::None],
                (false, false) => &[Statistics::None],
            };
            let gradients = Self { weight, bias, projection };
            variants.extend(statistics.iter().map(|&statistics| (gradients, statistics)));
        }
        variants
    }
}

impl fmt::Display for ChannelGradients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outputs = [(self.weight, "dweight"), (self.bias, "dbias"), (self.projection, "projections")];
        for (_, name) in outputs.into_iter().filter(|(wanted, _)| *wanted) {
            write!(f, ", {name}")?;
        }
        Ok(())
    }
}
