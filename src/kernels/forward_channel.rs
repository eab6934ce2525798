use super::{Access, Binding, Lanes, Output, Source, Tracking, Walk};
use std::fmt;

/// The forward pass with batch statistics in one dispatch: every channel is one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForwardChannel {
    /// How x is visited: not [`Walk::Ragged`], since the statistics of a neighbouring channel are not known.
    /// [`Walk::Columns`] goes with [`Lanes::Alone`] and only with that.
    pub walk: Walk,
    /// How lanes merge.
    pub lanes: Lanes,
    /// How y is written.
    pub output: Output,
    /// Whether there are running statistics to move.
    pub tracking: Tracking,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl ForwardChannel {
    pub(super) fn source(&self) -> Source {
        let mut bindings = vec![(Binding::Params, Access::Uniform), (Binding::Statistics, Access::ReadWrite)];
        bindings.extend(self.output.bindings());
        bindings.extend(self.tracking.bindings());
        let mut choices = self.walk.choices();
        choices.extend(self.lanes.choices());
        choices.push(self.tracking.choice());
        choices.extend(self.output.choices(self.walk.width()));
        let constants = self.lanes.constants_with(self.walk, self.workgroup_size);
        Source { stem: "forward_channel", constants, choices, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (index, (walk, lanes)) in
            Lanes::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate()
        {
            if matches!(walk, Walk::Ragged { .. }) {
                continue;
            }
            for tracking in Tracking::ALL {
                for output in Output::every_plain() {
                    variants.push(Self { walk, lanes, output, tracking, workgroup_size });
                }
            }
            // A third of what can be fused, in turn.
            for output in Output::every_fused().skip(index % 3).step_by(3) {
                let tracking = Tracking::Fixed;
                variants.push(Self { walk, lanes, output, tracking, workgroup_size });
            }
        }
        variants
    }
}

impl fmt::Display for ForwardChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}{}{}", self.walk, self.lanes, self.output, self.tracking.name())
    }
}
