use super::{Access, Binding, Lanes, Source, Tracking};
use std::fmt;

/// Merges partial moments to statistics, and moves the running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Finalize {
    /// Whether there are running statistics to move.
    pub tracking: Tracking,
    /// Channels a workgroup takes, a power of two; its other lanes share the splits of each.
    pub channels_per_workgroup: u32,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl Finalize {
    pub(super) fn source(&self) -> Source {
        let lanes = Lanes::Tree { channels: self.channels_per_workgroup };
        let mut bindings = vec![
            (Binding::Params, Access::Uniform),
            (Binding::Statistics, Access::ReadWrite),
            (Binding::Partials, Access::Read),
        ];
        bindings.extend(self.tracking.bindings());
        let mut choices = vec![("data/per_channel", "one"), self.tracking.choice()];
        choices.extend(lanes.choices());
        Source { stem: "finalize", constants: lanes.constants(self.workgroup_size), choices, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for tracking in Tracking::ALL {
            for channels_per_workgroup in [1, workgroup_size] {
                variants.push(Self { tracking, channels_per_workgroup, workgroup_size });
            }
        }
        variants
    }
}

impl fmt::Display for Finalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} channels a workgroup{}", self.channels_per_workgroup, self.tracking.name())
    }
}
