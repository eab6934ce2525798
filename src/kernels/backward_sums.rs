use super::fused::x_choices;
use super::{Access, Binding, ChannelGradients, Lanes, Source, Statistics, Upstream, Walk};
use std::fmt;

/// Reduces dy and x to sums of dy and of dy · (x − mean) of every channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardSums {
    /// How dy and x are visited. [`Walk::Columns`] goes with [`Lanes::Alone`] and only with that.
    pub walk: Walk,
    /// How lanes merge.
    pub lanes: Lanes,
    /// Where the mean comes from. With [`Statistics::None`], x is not read, and only dy is summed: not where an
    /// activation needs it.
    pub statistics: Statistics,
    /// How dy arrives.
    pub upstream: Upstream,
    /// What becomes of the sums of a split: a partial result, or where a channel is one split, these.
    pub result: Option<ChannelGradients>,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl BackwardSums {
    pub(super) fn source(&self) -> Source {
        let needs_x = self.statistics != Statistics::None;
        let mut bindings = vec![(Binding::Params, Access::Uniform), (Binding::Dy, Access::Read)];
        if needs_x {
            bindings.push((Binding::X, Access::Read));
        }
        bindings.extend(self.statistics.bindings());
        bindings.extend(self.upstream.bindings(false));
        let mut choices = vec![("tensors/dy", "read"), self.statistics.choice()];
        choices.extend(self.walk.choices());
        choices.extend(self.upstream.choices(self.walk.width()));
        choices.extend(self.lanes.choices());
        choices.extend(x_choices(needs_x));
        match self.result {
            None => {
                choices.push(("split_result", "partial"));
                bindings.push((Binding::Partials, Access::ReadWrite));
            }
            Some(gradients) => {
                choices.push(("split_result", "gradients"));
                choices.extend(gradients.choices());
                bindings.extend(gradients.bindings());
            }
        }
        let constants = self.lanes.constants_with(self.walk, self.workgroup_size);
        Source { stem: "backward_sums", constants, choices, bindings }
    }

    pub(super) fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut results: Vec<_> = [Statistics::Batch, Statistics::Running, Statistics::None]
            .map(|statistics| (None, statistics))
            .to_vec();
        // dweight needs x here: of an empty batch, nothing is summed.
        let concluded = ChannelGradients::every_variant()
            .into_iter()
            .filter(|(gradients, statistics)| !gradients.weight || *statistics != Statistics::None);
        results.extend(concluded.map(|(gradients, statistics)| (Some(gradients), statistics)));
        let mut variants = Vec::new();
        for (index, (walk, lanes)) in
            Lanes::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate()
        {
            for &(result, statistics) in &results {
                let upstream = Upstream::plain(true);
                variants.push(Self { walk, lanes, statistics, upstream, result, workgroup_size });
            }
            // A half of what can be fused, in turn.
            for (k, upstream) in Upstream::every_activated().enumerate().skip(index % 2).step_by(2) {
                let statistics = [Statistics::Batch, Statistics::Running][k / 2 % 2];
                variants.push(Self { walk, lanes, statistics, upstream, result: None, workgroup_size });
            }
        }
        variants
    }
}

impl fmt::Display for BackwardSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}{}", self.walk, self.lanes, self.statistics.name(), self.upstream)?;
        match self.result {
            None => f.write_str(", partials"),
            Some(gradients) => gradients.fmt(f),
        }
    }
}
