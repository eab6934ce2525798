use super::{Access, Binding, Lanes, Source, choose};
use std::fmt;

/// Merges partial moments to statistics, and moves the running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Finalize {
    /// Whether there are running statistics to move.
    pub tracking: bool,
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
        if self.tracking {
            bindings.extend([
                (Binding::RunningMean, Access::ReadWrite),
                (Binding::RunningVar, Access::ReadWrite),
                (Binding::NumBatchesTracked, Access::Read),
            ]);
        }
        Source {
            stem: "finalize",
            constants: lanes.constants(self.workgroup_size),
            pieces: vec![
                "params",
                "compensated",
                "moments_type",
                lanes.piece(),
                "statistics_type",
                choose(self.tracking, "tracking_on", "tracking_off"),
            ],
            bindings,
        }
    }

    pub(super) fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for tracking in [false, true] {
            for channels_per_workgroup in [1, workgroup_size] {
                variants.push(Self { tracking, channels_per_workgroup, workgroup_size });
            }
        }
        variants
    }
}

impl fmt::Display for Finalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tracking = if self.tracking { ", running statistics" } else { "" };
        write!(f, "{} channels a workgroup{tracking}", self.channels_per_workgroup)
    }
}
