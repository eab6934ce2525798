use super::{Access, Binding, ChannelGradients, Held, InputGradient, Source, Statistics};
use std::fmt;

/// The backward pass through batch statistics in one dispatch that reads x and dy once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardHeld {
    /// How a workgroup holds its channels.
    pub held: Held,
    /// How dx and dz are written.
    pub gradient: InputGradient,
    /// Whether dweight is wanted.
    pub dweight: bool,
    /// Whether dbias is wanted.
    pub dbias: bool,
}

impl BackwardHeld {
    fn gradients(&self) -> ChannelGradients {
        ChannelGradients { weight: self.dweight, bias: self.dbias, projection: false }
    }

    pub(super) fn source(&self) -> Source {
        let mut bindings = vec![(Binding::Params, Access::Uniform)];
        bindings.extend(self.gradient.bindings(true));
        bindings.extend(Statistics::Batch.bindings());
        bindings.extend(self.gradients().bindings());
        let mut choices = self.held.choices();
        choices.push(Statistics::Batch.choice());
        choices.extend(self.gradients().choices());
        choices.extend(self.gradient.choices(self.held.places.width(), true));
        Source { stem: "backward_held", constants: self.held.constants(), choices, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (index, held) in Held::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate() {
            for bits in 0..8 {
                let [in_place, dweight, dbias] = [1, 2, 4].map(|bit| bits & bit != 0);
                let exact_products = held.places.has_exact_products() && dweight;
                let affine = dweight || dbias || in_place;
                let gradient = InputGradient::plain(affine, in_place, exact_products);
                variants.push(Self { held, gradient, dweight, dbias });
            }
            // A third of what can be fused, in turn.
            for gradient in
                InputGradient::every_activated(held.places.has_exact_products()).skip(index % 3).step_by(3)
            {
                variants.push(Self { held, gradient, dweight: true, dbias: true });
            }
        }
        variants
    }
}

impl fmt::Display for BackwardHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.held, self.gradient, self.gradients())
    }
}
