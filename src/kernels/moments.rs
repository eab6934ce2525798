use super::{Access, Binding, Lanes, Source, Storage, Tracking, Walk};
use std::fmt;

/// Reduces x to moments of every channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moments {
    /// How x is visited. [`Walk::Columns`] goes with [`Lanes::Alone`] and only with that.
    pub walk: Walk,
    /// How lanes merge.
    pub lanes: Lanes,
    /// How x is stored.
    pub storage: Storage,
    /// What becomes of the moments.
    pub result: MomentsResult,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

/// What becomes of the moments of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MomentsResult {
    /// They are kept as a partial result.
    Partials,
    /// The channel is one split: its statistics are computed, and the running ones move.
    Statistics(Tracking),
}

impl Moments {
    pub(super) fn source(&self) -> Source {
        let mut choices = vec![("tensors/x", "read")];
        let mut bindings = vec![(Binding::Params, Access::Uniform), (Binding::X, Access::Read)];
        choices.extend(self.walk.choices());
        choices.extend(self.storage.choices(self.walk.width()));
        choices.extend(self.lanes.choices());
        match self.result {
            MomentsResult::Partials => {
                choices.push(("split_result", "partial"));
                bindings.push((Binding::Partials, Access::ReadWrite));
            }
            MomentsResult::Statistics(tracking) => {
                choices.extend([("split_result", "statistics"), tracking.choice()]);
                bindings.push((Binding::Statistics, Access::ReadWrite));
                bindings.extend(tracking.bindings());
            }
        }
        let constants = self.lanes.constants_with(self.walk, self.workgroup_size);
        Source { stem: "moments", constants, choices, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        let concluded = Tracking::ALL.map(MomentsResult::Statistics);
        for (walk, lanes) in Lanes::every_variant(workgroup_size, subgroup_sizes) {
            for result in [&[MomentsResult::Partials][..], &concluded].concat() {
                variants.push(Self { walk, lanes, storage: Storage::F32, result, workgroup_size });
            }
            for storage in Storage::ALL {
                let result = MomentsResult::Partials;
                variants.push(Self { walk, lanes, storage, result, workgroup_size });
            }
        }
        variants
    }
}

impl fmt::Display for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}{}", self.walk, self.lanes, self.storage.name())?;
        match self.result {
            MomentsResult::Partials => f.write_str(", partials"),
            MomentsResult::Statistics(tracking) => f.write_str(tracking.name()),
        }
    }
}
