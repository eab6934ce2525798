use super::{Access, Binding, InputGradient, Lanes, Source, Statistics, Walk};
use std::fmt;

/// Computes dx, and dz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardInput {
    /// How the tensors are visited.
    pub walk: Walk,
    /// Which statistics the forward pass used: through those of the batch, gradient flows; then x is read.
    pub statistics: Statistics,
    /// How dx and dz are written.
    pub gradient: InputGradient,
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
}

impl BackwardInput {
    pub(super) fn source(&self) -> Source {
        let batch = self.statistics == Statistics::Batch;
        let mut bindings = vec![(Binding::Params, Access::Uniform)];
        bindings.extend(self.gradient.bindings(batch));
        bindings.extend(self.statistics.bindings());
        // Without dx, nothing is projected.
        let projected = batch && self.gradient.dx;
        if projected {
            bindings.push((Binding::Projections, Access::Read));
        }
        let mut choices = vec![("entry", "plain"), self.statistics.choice()];
        choices.push(("backward/projections", if projected { "read" } else { "none" }));
        choices.extend(self.walk.choices());
        choices.extend(self.gradient.choices(self.walk.width(), batch));
        let constants = Lanes::Alone.constants_with(self.walk, self.workgroup_size);
        Source { stem: "backward_input", constants, choices, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for walk in Walk::every_variant(workgroup_size) {
            let statistics =
                [(Statistics::Batch, false), (Statistics::Batch, true), (Statistics::Running, false)];
            for (statistics, exact_products) in statistics {
                if exact_products && !walk.has_exact_products() {
                    continue;
                }
                let plain = [(false, false), (false, true), (true, false), (true, true)]
                    .map(|(in_place, affine)| InputGradient::plain(affine, in_place, exact_products));
                let without_dx = InputGradient::every_activated(false)
                    .filter(|gradient| gradient.dz && !gradient.in_place && !exact_products)
                    .map(|gradient| InputGradient { dx: false, ..gradient });
                let fused = InputGradient::every_activated(exact_products).chain(without_dx);
                // A half of what can be fused, in turn.
                let fused = fused.skip(variants.len() % 2).step_by(2);
                for gradient in plain.into_iter().chain(fused) {
                    variants.push(Self { walk, statistics, gradient, workgroup_size });
                }
            }
        }
        variants
    }
}

impl fmt::Display for BackwardInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}{}", self.walk, self.statistics.name(), self.gradient)
    }
}
