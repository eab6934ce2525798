//! The results of a channel's sums in the backward pass.

use super::compose::Choice;
use std::fmt;

/// Which results the backward pass computes per channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelGradients {
    /// dweight.
    pub weight: bool,
    /// dbias.
    pub bias: bool,
    /// What [`BackwardInput`](super::BackwardInput) needs of the sums, if dx is wanted and the pass uses batch
    /// statistics.
    pub projection: bool,
}

impl ChannelGradients {
    /// Returns the cases of the shader files, except the source of the statistics.
    pub(super) fn choices(self) -> [Choice; 3] {
        let [weight, bias] = self.of_parameters();
        [weight, bias, ("backward/projections", if self.projection { "store" } else { "not_stored" })]
    }

    /// Returns the cases for dweight and dbias.
    pub(super) fn of_parameters(self) -> [Choice; 2] {
        let store = |wanted| if wanted { "store" } else { "none" };
        [("backward/dweight", store(self.weight)), ("backward/dbias", store(self.bias))]
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
