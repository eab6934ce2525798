//! The passes that benchmarks time.

use crate::config::BatchNormConfig;
use crate::dtype::DType;
use crate::error::Result;
use crate::layout::Layout;
use crate::plan::{BackwardOptions, Direction, ForwardOptions, GradientMask, Plan, PlanInput};
use crate::profile::AdapterProfile;
use crate::record::BoundPlan;
use crate::tunings::Tunings;

/// A pass that benchmarks time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Forward in training.
    ForwardTrain,
    /// Forward in eval.
    ForwardEval,
    /// Backward after a forward pass in training.
    Backward,
    /// Forward in training and backward, one after the other.
    ForwardBackward,
}

impl Pass {
    /// Every pass.
    pub const ALL: [Self; 4] = [Self::ForwardTrain, Self::ForwardEval, Self::Backward, Self::ForwardBackward];

    /// Returns the name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::ForwardTrain => "forward_train",
            Self::ForwardEval => "forward_eval",
            Self::Backward => "backward",
            Self::ForwardBackward => "forward_backward",
        }
    }

    /// Returns the pass with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pass| pass.name() == name)
    }

    /// Returns whether the layer is in training mode.
    pub fn is_training(self) -> bool {
        self != Self::ForwardEval
    }

    /// Returns whether the pass computes gradients.
    pub fn has_backward(self) -> bool {
        self.directions().contains(&Direction::Backward)
    }

    /// Returns the directions to plan, in order. Excludes a forward pass that must have run before.
    pub fn directions(self) -> &'static [Direction] {
        match self {
            Self::ForwardTrain | Self::ForwardEval => &[Direction::Forward],
            Self::Backward => &[Direction::Backward],
            Self::ForwardBackward => &[Direction::Forward, Direction::Backward],
        }
    }

    /// Returns the plans of the pass for a tensor, with PyTorch's defaults.
    ///
    /// # Errors
    /// As [`Plan::forward`].
    pub fn plans(
        self,
        shape: &[usize],
        layout: Layout,
        dtype: DType,
        profile: &AdapterProfile,
    ) -> Result<Vec<Plan>> {
        let config = BatchNormConfig::new(shape[layout.channel_axis(shape.len())]).layout(layout);
        let problem = config.problem(shape, layout, self.is_training().into())?;
        let input = PlanInput::new(&problem, &config, self.is_training().into(), profile);
        let tunings = Tunings::new(profile);
        let plan = |&direction| plan(&tunings, &input, direction, (dtype, false), GradientMask::ALL);
        self.directions().iter().map(plan).collect()
    }
}

/// Returns the plan of one direction, out of place.
///
/// # Errors
/// As [`Plan::forward`].
pub fn plan(
    tunings: &Tunings,
    input: &PlanInput<'_>,
    direction: Direction,
    (dtype, residual): (DType, bool),
    mask: GradientMask,
) -> Result<Plan> {
    match direction {
        Direction::Forward => tunings.forward(input, &ForwardOptions::new().residual(residual).dtype(dtype)),
        Direction::Backward => {
            tunings.backward(input, &BackwardOptions::new().mask(mask).residual(residual).dtype(dtype))
        }
    }
}

/// Returns the pipeline, bind group and grid of each dispatch.
pub fn dispatches(
    plan: &BoundPlan,
) -> impl Iterator<Item = (&wgpu::ComputePipeline, &wgpu::BindGroup, [u32; 3])> {
    plan.dispatches.iter().map(|dispatch| (&dispatch.kernel.pipeline, &dispatch.bind_group, dispatch.grid))
}
