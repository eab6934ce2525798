//! The passes that are timed, and their plans.

use crate::bench::sets::{Shape, Variant};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use wgpu_batchnorm::internals::{self, Pass};
use wgpu_batchnorm::record::Binding;
use wgpu_batchnorm::{
    Activation, AdapterProfile, BatchNormConfig, Direction, GradientMask, Plan, PlanInput, Result, Tunings,
};

/// Returns a parser for the name of a pass.
pub(crate) fn pass_parser() -> impl TypedValueParser<Value = Pass> {
    let about = |pass| match pass {
        Pass::ForwardTrain => "Forward in training",
        Pass::ForwardEval => "Forward in eval",
        Pass::Backward => "Backward after a training pass",
        Pass::ForwardBackward => "Forward in training and backward in one encoder",
    };
    let names = Pass::ALL.map(|pass| PossibleValue::new(pass.name()).help(about(pass)));
    PossibleValuesParser::new(names).try_map(|name| Pass::from_name(&name).ok_or("there is no such pass"))
}

/// A buffer of a benchmark: that of a binding, or one between the passes of a batch norm and of an activation apart,
/// in place of the binding's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) binding: Binding,
    pub(crate) between: bool,
}

impl Slot {
    pub(crate) fn new(binding: Binding, between: bool) -> Self {
        Self { binding, between }
    }

    /// Returns whether the buffer has an element for each of x.
    pub(crate) fn has_elements(self) -> bool {
        matches!(
            self.binding,
            Binding::X | Binding::Y | Binding::Residual | Binding::Dx | Binding::Dy | Binding::DResidual
        )
    }
}

/// A plan and the buffers that it uses.
pub(crate) struct Part {
    pub(crate) plan: Plan,
    kind: Kind,
}

/// The role of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The whole pass, fused.
    Whole,
    /// The batch norm, with an activation apart.
    BatchNorm,
    /// The activation, apart: a batch norm in eval that is the identity before the activation.
    Activation,
}

impl Part {
    /// Returns the buffer for a binding.
    pub(crate) fn slot(&self, binding: Binding) -> Slot {
        let between = match self.kind {
            Kind::Whole => false,
            Kind::BatchNorm => matches!(binding, Binding::Y | Binding::Dy),
            Kind::Activation => {
                let statistics = matches!(binding, Binding::RunningMean | Binding::RunningVar);
                statistics || matches!(binding, Binding::X | Binding::Dx)
            }
        };
        // Forward, the batch norm's y is the activation's x. Backward, the activation's dx is the batch norm's dy.
        let binding = match (self.kind, binding) {
            (Kind::Activation, Binding::X) => Binding::Y,
            (Kind::Activation, Binding::Dx) => Binding::Dy,
            (_, binding) => binding,
        };
        Slot::new(binding, between)
    }
}

/// A planned pass on a shape.
pub(crate) struct PlannedPass {
    pub(crate) pass: Pass,
    /// Plans that must run once before, and are not timed.
    pub(crate) before: Vec<Part>,
    /// Plans that are timed.
    pub(crate) timed: Vec<Part>,
}

impl PlannedPass {
    /// Plans a pass with the given tunings.
    pub(crate) fn new(
        shape: &Shape,
        pass: Pass,
        profile: &AdapterProfile,
        tunings: &Tunings,
    ) -> Result<Self> {
        let training = pass.is_training();
        let Variant { dtype, activation, add, apart } = shape.variant;
        let plan = |kind: Kind, direction: Direction| -> Result<Part> {
            let (config, training) = match kind {
                Kind::Whole => (shape.config(), training),
                Kind::BatchNorm => (shape.config().activation(Activation::Identity), training),
                // With eps 0, running mean 0 and variance 1 make it the identity.
                Kind::Activation => (shape.config().eps(0.0).affine(false), false),
            };
            let problem = config.problem(&shape.sizes, shape.layout, training.into())?;
            let residual = add && kind != Kind::BatchNorm;
            // The gradient that returns through the activation apart is already dresidual.
            let mask = match kind {
                Kind::Activation => GradientMask::INPUT.residual(false),
                _ => GradientMask::ALL,
            };
            let input = PlanInput::new(&problem, &config, training.into(), profile);
            let plan = internals::plan(tunings, &input, direction, (dtype, residual), mask)?;
            Ok(Part { plan, kind })
        };
        let parts = |direction: Direction| -> Result<Vec<Part>> {
            let mut kinds = if apart { vec![Kind::BatchNorm, Kind::Activation] } else { vec![Kind::Whole] };
            if direction == Direction::Backward {
                kinds.reverse();
            }
            kinds.into_iter().map(|kind| plan(kind, direction)).collect()
        };
        debug_assert!(!apart || activation != Activation::Identity);
        let mut timed = Vec::new();
        for &direction in pass.directions() {
            timed.extend(parts(direction)?);
        }
        let before = if pass == Pass::Backward { parts(Direction::Forward)? } else { vec![] };
        Ok(Self { pass, before, timed })
    }

    /// Returns the bytes that the pass reads from and writes to memory.
    pub(crate) fn moved_bytes(&self) -> u64 {
        self.timed.iter().map(|part| part.plan.bytes_moved()).sum()
    }

    /// Returns the bytes that any such pass must move.
    pub(crate) fn floor_bytes(&self) -> u64 {
        self.timed.iter().map(|part| part.plan.floor_bytes()).sum()
    }

    /// Returns the timed plans in full.
    pub(crate) fn text(&self) -> String {
        self.timed.iter().map(|part| part.plan.to_string()).collect::<String>().trim_end().to_owned()
    }

    /// Returns one line per timed plan: the kernels, with their workgroups and invocations per workgroup.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |part: &Part| {
            let plan = &part.plan;
            let name = match (part.kind, plan.is_forward(), plan.mode().is_training()) {
                (Kind::Activation, true, _) => "activation",
                (Kind::Activation, false, _) => "activation, backward",
                (_, true, true) => "forward_train",
                (_, true, false) => "forward_eval",
                (_, false, _) => "backward",
            };
            let kernels = plan.steps().iter().map(|step| {
                let workgroups: u64 = step.grid.iter().map(|&size| u64::from(size)).product();
                format!("{} {workgroups}×{}", step.kernel.stem(), step.kernel.workgroup_size())
            });
            format!("{name}: {}", kernels.collect::<Vec<_>>().join(", "))
        };
        self.timed.iter().map(line).collect()
    }
}

impl Shape {
    /// Returns the layer's options: PyTorch's defaults, the layout and the activation.
    pub(crate) fn config(&self) -> BatchNormConfig {
        let channels = self.sizes[self.layout.channel_axis(self.sizes.len())];
        BatchNormConfig::new(channels).layout(self.layout).activation(self.variant.activation)
    }
}
