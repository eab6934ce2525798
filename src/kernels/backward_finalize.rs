use super::{Access, Binding, Lanes, Source, Statistics, choose};
use std::fmt;

/// Merges partial sums to dweight, dbias and what dx needs of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardFinalize {
    /// Where `inv_std` comes from; [`Statistics::None`] where only dbias is wanted, or the batch is empty.
    pub statistics: Statistics,
    /// Whether dweight is wanted.
    pub dweight: bool,
    /// Whether dbias is wanted.
    pub dbias: bool,
    /// Whether dx needs the sums: when it is wanted, and batch statistics were used.
    pub projection: bool,
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
        let outputs = [
            (self.dweight, Binding::DWeight),
            (self.dbias, Binding::DBias),
            (self.projection, Binding::Projections),
        ];
        let wanted = outputs.into_iter().filter(|(wanted, _)| *wanted);
        bindings.extend(wanted.map(|(_, binding)| (binding, Access::ReadWrite)));
        Source {
            stem: "backward_finalize",
            constants: lanes.constants(self.workgroup_size),
            pieces: vec![
                "params",
                "compensated",
                "sums_type",
                lanes.piece(),
                "statistics_type",
                self.statistics.piece(),
                choose(self.dweight, "dweight_on", "dweight_off"),
                choose(self.dbias, "dbias_on", "dbias_off"),
                "projection_type",
                choose(self.projection, "projection_on", "projection_off"),
            ],
            bindings,
        }
    }

    pub(super) fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for channels_per_workgroup in [1, workgroup_size] {
            for bits in 1..8 {
                let [dweight, dbias, projection] = [1, 2, 4].map(|bit| bits & bit != 0);
                let statistics: &[_] = match (dweight, projection) {
                    (_, true) => &[Statistics::Batch],
                    // None: of an empty batch, where all gradients are zeros.
                    (true, false) => &[Statistics::Batch, Statistics::Running, Statistics::None],
                    (false, false) => &[Statistics::None],
                };
                variants.extend(statistics.iter().map(|&statistics| Self {
                    statistics,
                    dweight,
                    dbias,
                    projection,
                    channels_per_workgroup,
                    workgroup_size,
                }));
            }
        }
        variants
    }
}

impl fmt::Display for BackwardFinalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} channels a workgroup, {}", self.channels_per_workgroup, self.statistics.name())?;
        let outputs = [(self.dweight, "dweight"), (self.dbias, "dbias"), (self.projection, "projections")];
        for (wanted, name) in outputs {
            if wanted {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}
