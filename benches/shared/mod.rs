//! What the benchmarks share: passes, their plans, and buffers for these.

use std::collections::BTreeMap;
use wgpu_batchnorm::kernels::Binding;
use wgpu_batchnorm::ndarray::Array1;
use wgpu_batchnorm::{
    BackwardOptions, BatchNormConfig, BoundPlan, Buffers, ForwardOptions, Gpu, Layout, Plan, Result, Tensor,
    wgpu,
};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    ForwardTrain,
    ForwardEval,
    Backward,
    /// Forward in training and backward, one after the other.
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

    /// The plans of this pass on a tensor, with PyTorch's defaults.
    pub(crate) fn plans(self, gpu: &Gpu, shape: &[usize], layout: Layout) -> Result<Vec<Plan>> {
        let config = config(shape, layout);
        let training = self != Self::ForwardEval;
        let problem = config.problem(shape, layout, training)?;
        let forward =
            || Plan::forward(&problem, &config, training, &ForwardOptions::default(), gpu.profile());
        let options = BackwardOptions::default();
        let backward = || Plan::backward(&problem, &config, training, &options, gpu.profile());
        Ok(match self {
            Self::ForwardTrain | Self::ForwardEval => vec![forward()?],
            Self::Backward => vec![backward()?],
            Self::ForwardBackward => vec![forward()?, backward()?],
        })
    }
}

/// A layer for tensors of this shape.
pub(crate) fn config(shape: &[usize], layout: Layout) -> BatchNormConfig {
    BatchNormConfig::new(shape[layout.channel_axis(shape.len())]).layout(layout)
}

/// A buffer for everything that some plans bind.
pub(crate) struct Memory(BTreeMap<Binding, Tensor>);

impl Memory {
    /// Tensors of numbers between -1 and 1, and vectors and scratch of ones: what a kernel computes from
    /// these is finite, and takes as long as with any other numbers.
    pub(crate) fn new(gpu: &Gpu, plans: &[Plan]) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (binding, bytes) in plans.iter().flat_map(Plan::buffers) {
            let is_tensor = matches!(binding, Binding::X | Binding::Dy);
            // Multiples of the golden ratio's fraction are spread evenly.
            let value = |k: usize| (k as f64 * 0.618_033_988_749_895).fract() * 2.0 - 1.0;
            let values = (0..bytes as usize / 4).map(|k| if is_tensor { value(k) as f32 } else { 1.0 });
            if tensors.get(&binding).is_none_or(|tensor: &Tensor| tensor.bytes() < bytes) {
                tensors.insert(binding, Tensor::from_array(gpu, values.collect::<Array1<f32>>().view())?);
            }
        }
        Ok(Self(tensors))
    }

    pub(crate) fn buffer(&self, binding: Binding) -> Option<&wgpu::Buffer> {
        self.0.get(&binding).map(Tensor::buffer)
    }

    pub(crate) fn buffers(&self) -> Buffers<'_> {
        Buffers::from_fn(|binding| self.buffer(binding).map(Into::into))
    }

    /// The plans on these buffers.
    pub(crate) fn bind(&self, gpu: &Gpu, plans: &[Plan]) -> Result<Vec<BoundPlan>> {
        plans.iter().map(|plan| gpu.prepare(plan)?.bind(&self.buffers())).collect()
    }
}
