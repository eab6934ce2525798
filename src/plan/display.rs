//! Prints a plan.

use super::{Direction, Plan};
use crate::kernels::Kernel;
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pass = match self.direction {
            Direction::Forward => "forward",
            Direction::Backward => "backward",
        };
        let mode = if self.mode.is_training() { "training" } else { "eval" };
        let in_place = if self.in_place { ", in place" } else { "" };
        writeln!(
            f,
            "{pass}, {mode}{in_place} on {} of {}: {} bytes moved (floor {}), {} bytes of scratch",
            self.problem,
            self.dtype,
            self.bytes_moved(),
            self.floor_bytes(),
            self.scratch_bytes()
        )?;
        // All groups of channels have the same steps, so only the first is printed.
        let mut groups: Vec<u32> = self.steps.iter().map(|step| step.channels.0).collect();
        groups.dedup();
        let of_first = self.steps.iter().filter(|step| step.channels.0 == 0);
        for step in of_first {
            let splits = match step.kernel {
                Kernel::Moments(_)
                | Kernel::BackwardSums(_)
                | Kernel::ForwardOneDispatch(_)
                | Kernel::BackwardOneDispatch(_) => {
                    format!(", {} splits", self.params.reduction.count)
                }
                Kernel::Normalize(_) | Kernel::BackwardInput(_) => {
                    format!(", {} splits", self.params.elementwise.count)
                }
                _ => String::new(),
            };
            let [x, y, _] = step.grid;
            let (stem, size) = (step.kernel.stem(), step.kernel.workgroup_size());
            let variant = step.kernel.variant();
            writeln!(f, "  {stem:<17} {x} × {y} workgroups of {size}{splits}{variant}")?;
        }
        if groups.len() > 1 {
            writeln!(f, "  and so on, for {} groups of channels", groups.len())?;
        }
        Ok(())
    }
}
