//! The kernels of the backward pass.

use super::epilogue::x_choices;
use super::{
    ChannelGradients, InputGradient, Lanes, PreActivation, Source, Statistics, Tile, Traversal,
    VECTORS_AT_ONCE, Variant,
};
use std::fmt;

/// Reduces dy and x to sums of dy and of dy · (x − mean) of every channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardSums {
    /// How dy and x are visited. [`Traversal::Columns`] requires [`Lanes::Separate`], and vice versa.
    pub traversal: Traversal,
    /// How lanes merge.
    pub lanes: Lanes,
    /// The source of the mean. With [`Statistics::None`], the kernel sums only dy and does not read x. An activation
    /// needs x, so it excludes this.
    pub statistics: Statistics,
    /// How dy goes back through the activation.
    pub pre_activation: PreActivation,
    /// How dx and dresidual are written besides, if they need no sums: with running statistics, or without dx. Requires
    /// statistics. Not with [`Traversal::PlanesMasked`].
    pub beside: Option<InputGradient>,
    /// The gradients to compute if each channel is one split. `None` stores the sums of splits as partial results.
    pub result: Option<ChannelGradients>,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl Variant for BackwardSums {
    fn source(&self) -> Source {
        let source = Source::new("backward_sums", self.lanes, self.workgroup_size)
            .traversal(self.traversal)
            .constants([VECTORS_AT_ONCE])
            .choose([self.statistics.choice()])
            .choose(x_choices(self.statistics != Statistics::None));
        let source = match self.result {
            None => source.choose([("split_result", "partial"), ("backward/projections", "none")]),
            Some(gradients) => source.choose([("split_result", "gradients")]).choose(gradients.choices()),
        };
        let width = self.traversal.width();
        match self.beside {
            None => source
                .choose([("tensors/dy", "read"), ("backward/reduce_sums", "alone")])
                .choose(self.pre_activation.choices(width)),
            Some(gradient) => {
                source.choose([("backward/reduce_sums", "with_gradients")]).gradient(gradient, width, false)
            }
        }
    }
}

impl fmt::Display for BackwardSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.traversal, self.lanes, self.statistics.name())?;
        match self.beside {
            None => self.pre_activation.fmt(f)?,
            Some(gradient) => gradient.fmt(f)?,
        }
        match self.result {
            None => f.write_str(", partials"),
            Some(gradients) => gradients.fmt(f),
        }
    }
}

/// Merges partial sums into dweight, dbias and what dx needs of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardFinalize {
    /// The source of `inv_std`. [`Statistics::None`] suits dbias alone, or an empty batch.
    pub statistics: Statistics,
    /// The gradients to compute.
    pub gradients: ChannelGradients,
    /// Channels per workgroup, a power of two. The lanes of a channel share its splits.
    pub channels_per_workgroup: u32,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl Variant for BackwardFinalize {
    fn source(&self) -> Source {
        let lanes = Lanes::Rows { across: self.channels_per_workgroup };
        Source::new("backward_finalize", lanes, self.workgroup_size)
            .choose([
                ("data/per_channel", "one"),
                ("iterate/partials", "by_channel"),
                self.statistics.choice(),
            ])
            .choose(self.gradients.choices())
    }
}

impl fmt::Display for BackwardFinalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (channels, statistics) = (self.channels_per_workgroup, self.statistics.name());
        write!(f, "{channels} channels a workgroup, {statistics}{}", self.gradients)
    }
}

/// Computes dx and dresidual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardInput {
    /// How the tensors are visited.
    pub traversal: Traversal,
    /// The statistics of the forward pass. Gradient flows through batch statistics, so x is read with them.
    pub statistics: Statistics,
    /// If each workgroup merges the partial sums of its channels: how its lanes do, and what is computed of them. Not
    /// with [`Traversal::Columns`].
    pub merge: Option<(Lanes, ChannelGradients)>,
    /// How dx and dresidual are written.
    pub gradient: InputGradient,
    /// Vectors that a lane loads before it uses the first: 1 or 4. With two vectors a load, 4.
    pub vectors_at_once: u32,
    /// Whether the last workgroups come first, since a reduction has left their elements in a cache.
    pub reversed: bool,
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
}

impl Variant for BackwardInput {
    fn source(&self) -> Source {
        let batch = self.statistics == Statistics::Batch;
        let (lanes, gradients) = self.merge.unzip();
        let source = Source::new("backward_input", lanes.unwrap_or(Lanes::Separate), self.workgroup_size)
            .traversal(self.traversal)
            .constants([("VECTORS_AT_ONCE", self.vectors_at_once), ("REVERSED", self.reversed.into())]);
        let projections = match gradients {
            Some(_) => "merged",
            // Without dx, nothing is projected.
            None if batch && self.gradient.dx => "read",
            None => "none",
        };
        let gradients = gradients.map(ChannelGradients::of_parameters);
        source
            .choose([self.statistics.choice(), ("backward/projections", projections)])
            .choose([self.traversal.merge()])
            .choose(gradients.into_iter().flatten())
            .gradient(self.gradient, self.traversal.width(), batch)
    }
}

impl fmt::Display for BackwardInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last_first = if self.reversed { ", last first" } else { "" };
        write!(f, "{}, {}", self.traversal, self.statistics.name())?;
        if let Some((lanes, gradients)) = self.merge {
            write!(f, ", merged sums, {lanes}{gradients}")?;
        }
        write!(f, "{}{last_first}", self.gradient)
    }
}

/// The backward pass through batch statistics in one dispatch: every channel is one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardOneDispatch {
    /// How the tensors are visited. Not by [`Traversal::PlanesMasked`], since the sums of a neighbouring channel are
    /// unknown. [`Traversal::Columns`] requires [`Lanes::Separate`], and vice versa.
    pub traversal: Traversal,
    /// How lanes merge.
    pub lanes: Lanes,
    /// How dx and dresidual are written.
    pub gradient: InputGradient,
    /// Whether dweight is wanted.
    pub dweight: bool,
    /// Whether dbias is wanted.
    pub dbias: bool,
    /// Invocations in a workgroup, a power of two.
    pub workgroup_size: u32,
}

impl BackwardOneDispatch {
    fn gradients(&self) -> ChannelGradients {
        ChannelGradients { weight: self.dweight, bias: self.dbias, projection: false }
    }
}

impl Variant for BackwardOneDispatch {
    fn source(&self) -> Source {
        Source::new("backward_one_dispatch", self.lanes, self.workgroup_size)
            .traversal(self.traversal)
            .constants([VECTORS_AT_ONCE])
            .choose([Statistics::Batch.choice(), ("backward/reduce_sums", "alone")])
            .choose(self.gradients().choices())
            .gradient(self.gradient, self.traversal.width(), true)
    }
}

impl fmt::Display for BackwardOneDispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}{}{}", self.traversal, self.lanes, self.gradient, self.gradients())
    }
}

/// The backward pass through batch statistics in one dispatch that reads x and dy once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardResident {
    /// The loads that each lane keeps in registers.
    pub tile: Tile,
    /// How dx and dresidual are written.
    pub gradient: InputGradient,
    /// Whether dweight is wanted.
    pub dweight: bool,
    /// Whether dbias is wanted.
    pub dbias: bool,
}

impl BackwardResident {
    fn gradients(&self) -> ChannelGradients {
        ChannelGradients { weight: self.dweight, bias: self.dbias, projection: false }
    }
}

impl Variant for BackwardResident {
    fn source(&self) -> Source {
        Source::resident("backward_resident", &self.tile)
            .choose([Statistics::Batch.choice()])
            .choose(self.gradients().choices())
            .gradient(self.gradient, self.tile.traversal.width(), true)
    }
}

impl fmt::Display for BackwardResident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.tile, self.gradient, self.gradients())
    }
}
