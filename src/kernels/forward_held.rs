use super::{Access, Binding, Held, Output, Source, Tracking};
use std::fmt;

/// The forward pass with batch statistics in one dispatch that reads x once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForwardHeld {
    /// How a workgroup holds its channels.
    pub held: Held,
    /// How y is written.
    pub output: Output,
    /// Whether there are running statistics to move.
    pub tracking: Tracking,
}

impl ForwardHeld {
    pub(super) fn source(&self) -> Source {
        let mut bindings = vec![(Binding::Params, Access::Uniform), (Binding::Statistics, Access::ReadWrite)];
        bindings.extend(self.output.bindings());
        bindings.extend(self.tracking.bindings());
        let mut choices = self.held.choices();
        choices.push(self.tracking.choice());
        choices.extend(self.output.choices(self.held.places.width()));
        Source { stem: "forward_held", constants: self.held.constants(), choices, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (index, held) in Held::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate() {
            for tracking in Tracking::ALL {
                for output in Output::every_plain() {
                    variants.push(Self { held, output, tracking });
                }
            }
            // A third of what can be fused, in turn.
            for output in Output::every_fused().skip(index % 3).step_by(3) {
                let tracking = Tracking::Fixed;
                variants.push(Self { held, output, tracking });
            }
        }
        variants
    }
}

impl fmt::Display for ForwardHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.held, self.output, self.tracking.name())
    }
}
