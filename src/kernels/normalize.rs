use super::{Access, Binding, Lanes, Output, Source, Statistics, Walk};
use std::fmt;

/// Normalises every element, then scales and shifts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Normalize {
    /// How x is visited.
    pub walk: Walk,
    /// Which statistics are used.
    pub statistics: Statistics,
    /// How y is written.
    pub output: Output,
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
}

impl Normalize {
    pub(super) fn source(&self) -> Source {
        let mut bindings = vec![(Binding::Params, Access::Uniform)];
        bindings.extend(self.output.bindings());
        bindings.extend(self.statistics.bindings());
        let mut choices = vec![("entry", "plain"), self.statistics.choice()];
        choices.extend(self.walk.choices());
        choices.extend(self.output.choices(self.walk.width()));
        let constants = Lanes::Alone.constants_with(self.walk, self.workgroup_size);
        Source { stem: "normalize", constants, choices, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for walk in Walk::every_variant(workgroup_size) {
            for statistics in [Statistics::Batch, Statistics::Running] {
                for output in Output::every_plain().into_iter().chain(Output::every_fused()) {
                    variants.push(Self { walk, statistics, output, workgroup_size });
                }
            }
        }
        variants
    }
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}{}", self.walk, self.statistics.name(), self.output)
    }
}
