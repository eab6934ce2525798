use super::{Access, Binding, ChannelGradients, InputGradient, Lanes, Source, Statistics, Walk};
use std::fmt;

/// The backward pass through batch statistics in one dispatch: every channel is one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardChannel {
    /// How the tensors are visited: not [`Walk::Ragged`], since the sums of a neighbouring channel are not
    /// known. [`Walk::Columns`] goes with [`Lanes::Alone`] and only with that.
    pub walk: Walk,
    /// How lanes merge.
    pub lanes: Lanes,
    /// How dx and dz are written.
    pub gradient: InputGradient,
    /// Whether dweight is wanted.
    pub dweight: bool,
    /// Whether dbias is wanted.
    pub dbias: bool,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl BackwardChannel {
    fn gradients(&self) -> ChannelGradients {
        ChannelGradients { weight: self.dweight, bias: self.dbias, projection: false }
    }

    pub(super) fn source(&self) -> Source {
        let mut bindings = vec![(Binding::Params, Access::Uniform)];
        bindings.extend(self.gradient.bindings(true));
        bindings.extend(Statistics::Batch.bindings());
        bindings.extend(self.gradients().bindings());
        let mut choices = self.walk.choices();
        choices.extend(self.lanes.choices());
        choices.push(Statistics::Batch.choice());
        choices.extend(self.gradients().choices());
        choices.extend(self.gradient.choices(self.walk.width(), true));
        let constants = self.lanes.constants_with(self.walk, self.workgroup_size);
        Source { stem: "backward_channel", constants, choices, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (index, (walk, lanes)) in
            Lanes::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate()
        {
            if matches!(walk, Walk::Ragged { .. }) {
                continue;
            }
            for bits in 0..8 {
                let [in_place, dweight, dbias] = [1, 2, 4].map(|bit| bits & bit != 0);
                let exact_products = walk.has_exact_products() && dweight;
                let affine = dweight || dbias || in_place;
                let gradient = InputGradient::plain(affine, in_place, exact_products);
                variants.push(Self { walk, lanes, gradient, dweight, dbias, workgroup_size });
            }
            // A third of what can be fused, in turn.
            for gradient in
                InputGradient::every_activated(walk.has_exact_products()).skip(index % 3).step_by(3)
            {
                variants.push(Self { walk, lanes, gradient, dweight: true, dbias: true, workgroup_size });
            }
        }
        variants
    }
}

impl fmt::Display for BackwardChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}{}{}", self.walk, self.lanes, self.gradient, self.gradients())
    }
}
