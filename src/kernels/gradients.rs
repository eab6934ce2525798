//! What follows from the sums of a channel's backward pass.

use super::compose::Choice;
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
    /// The cases of the shader files, all but that which says where statistics come from.
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
