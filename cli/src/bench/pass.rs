//! The passes that are timed, and their plans.

use super::sets::Shape;
use clap::ValueEnum;
use wgpu_batchnorm::{
    AdapterProfile, BackwardOptions, BatchNormConfig, Direction, ForwardOptions, Plan, Result, Tunings,
};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pass {
    /// Forward in training
    #[value(name = "forward_train")]
    ForwardTrain,
    /// Forward in eval
    #[value(name = "forward_eval")]
    ForwardEval,
    /// Backward after a training pass
    #[value(name = "backward")]
    Backward,
    /// Forward in training and backward in one encoder
    #[value(name = "forward_backward")]
    ForwardBackward,
}

impl Pass {
    pub(crate) const ALL: [Self; 4] =
        [Self::ForwardTrain, Self::ForwardEval, Self::Backward, Self::ForwardBackward];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ForwardTrain => "forward_train",
            Self::ForwardEval => "forward_eval",
            Self::Backward => "backward",
            Self::ForwardBackward => "forward_backward",
        }
    }

    /// Whether the layer is in training mode.
    pub(crate) fn is_training(self) -> bool {
        self != Self::ForwardEval
    }

    /// The passes that are planned for it, but for a forward pass that must have run before.
    pub(crate) fn directions(self) -> &'static [Direction] {
        match self {
            Self::ForwardTrain | Self::ForwardEval => &[Direction::Forward],
            Self::Backward => &[Direction::Backward],
            Self::ForwardBackward => &[Direction::Forward, Direction::Backward],
        }
    }

    pub(crate) fn has_backward(self) -> bool {
        matches!(self, Self::Backward | Self::ForwardBackward)
    }
}

/// A pass on a shape, planned.
pub(crate) struct PlannedPass {
    pub(crate) pass: Pass,
    /// What must have run before, once, and is not timed.
    pub(crate) before: Vec<Plan>,
    /// What is timed.
    pub(crate) timed: Vec<Plan>,
}

impl PlannedPass {
    /// Plans by the tunings there are.
    pub(crate) fn new(
        shape: &Shape,
        pass: Pass,
        profile: &AdapterProfile,
        tunings: &Tunings,
    ) -> Result<Self> {
        let (config, training) = (shape.config(), pass.is_training());
        let problem = config.problem(&shape.sizes, shape.layout, training)?;
        let forward = || tunings.forward(&problem, &config, training, &ForwardOptions::default(), profile);
        let options = BackwardOptions::default();
        let backward = || tunings.backward(&problem, &config, training, &options, profile);
        let (before, timed) = match pass {
            Pass::ForwardTrain | Pass::ForwardEval => (vec![], vec![forward()?]),
            Pass::Backward => (vec![forward()?], vec![backward()?]),
            Pass::ForwardBackward => (vec![], vec![forward()?, backward()?]),
        };
        Ok(Self { pass, before, timed })
    }

    /// Bytes that any such pass must move.
    pub(crate) fn floor_bytes(&self) -> u64 {
        self.timed.iter().map(Plan::floor_bytes).sum()
    }

    /// The timed plans in full.
    pub(crate) fn text(&self) -> String {
        self.timed.iter().map(ToString::to_string).collect::<String>().trim_end().to_owned()
    }

    /// The timed plans in a line each: the kernels, with their workgroups and the invocations in one.
    pub(crate) fn lines(&self) -> Vec<String> {
        let names = match self.pass {
            Pass::ForwardTrain => ["forward_train", ""],
            Pass::ForwardEval => ["forward_eval", ""],
            Pass::Backward => ["backward", ""],
            Pass::ForwardBackward => ["forward_train", "backward"],
        };
        let line = |(plan, name): (&Plan, &str)| {
            let kernels = plan.steps().iter().map(|step| {
                let workgroups: u64 = step.grid.iter().map(|&size| u64::from(size)).product();
                format!("{} {workgroups}×{}", step.kernel.stem(), step.kernel.workgroup_size())
            });
            format!("{name}: {}", kernels.collect::<Vec<_>>().join(", "))
        };
        self.timed.iter().zip(names).map(line).collect()
    }
}

impl Shape {
    /// The layer: PyTorch's defaults.
    pub(crate) fn config(&self) -> BatchNormConfig {
        let channels = self.sizes[self.layout.channel_axis(self.sizes.len())];
        BatchNormConfig::new(channels).layout(self.layout)
    }
}
