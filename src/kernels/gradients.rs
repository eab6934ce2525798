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
        let store = |wanted, otherwise| if wanted { "store" } else { otherwise };
        [
            ("backward/dweight", store(self.weight, "none")),
            ("backward/dbias", store(self.bias, "none")),
            ("backward/projections", store(self.projection, "not_stored")),
        ]
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
