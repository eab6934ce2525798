use super::{Access, Binding, ChannelGradients, Lanes, Source, Statistics};
use std::fmt;

/// Merges partial sums to dweight, dbias and what dx needs of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardFinalize {
    /// Where `inv_std` comes from; [`Statistics::None`] where only dbias is wanted, or the batch is empty.
    pub statistics: Statistics,
    /// What is wanted.
    pub gradients: ChannelGradients,
    /// Channels a workgroup takes, a power of two; its other lanes share the splits of each.
    pub channels_per_workgroup: u32,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl BackwardFinalize {
    pub(super) fn source(&self) -> Source {
        let lanes = Lanes::Tree { channels: self.channels_per_workgroup };
        let mut bindings = vec![(Binding::Params, Access::Uniform), (Binding::Partials, Access::Read)];
        bindings.extend(self.statistics.bindings());
        bindings.extend(self.gradients.bindings());
        let mut choices = vec![("data/per_channel", "one"), self.statistics.choice()];
        choices.extend(lanes.choices());
        choices.extend(self.gradients.choices());
        let constants = lanes.constants(self.workgroup_size);
        Source { stem: "backward_finalize", constants, choices, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for channels_per_workgroup in [1, workgroup_size] {
            for (gradients, statistics) in ChannelGradients::every_variant() {
                variants.push(Self { statistics, gradients, channels_per_workgroup, workgroup_size });
            }
        }
        variants
    }
}

impl fmt::Display for BackwardFinalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (channels, statistics) = (self.channels_per_workgroup, self.statistics.name());
        write!(f, "{channels} channels a workgroup, {statistics}{}", self.gradients)
    }
}
