//! The buffers that the timed passes work on.

use super::pass::{Pass, PlannedPass};
use super::sets::Shape;
use std::collections::BTreeMap;
use wgpu_batchnorm::kernels::Binding;
use wgpu_batchnorm::ndarray::{Array1, ArrayD};
use wgpu_batchnorm::verify::{Case, GradientScales, Inputs, Outputs, Step, StepGradients};
use wgpu_batchnorm::{BoundPlan, BufferRegion, Buffers, DType, Gpu, Layout, Plan, Result, Tensor, wgpu};

/// More than last-level caches hold: before a buffer is used again, so many bytes of others were.
pub(super) const ROTATED_BYTES: u64 = 1 << 28;

/// Most sets of buffers. Where that is not enough, other memory is copied between the runs.
const MAX_SETS: u64 = 64;

/// How many sets of buffers runs rotate through, when each run moves so many bytes; `None` where no
/// reasonable number is enough.
fn sets(bytes: u64) -> Option<u64> {
    let sets = ROTATED_BYTES.div_ceil(bytes.max(1));
    (sets <= MAX_SETS).then_some(sets)
}

/// The case that is checked and timed: the shape with normal data of mean 0 and deviation 1.
pub(super) fn case(shape: &Shape, pass: Pass) -> Case {
    Case {
        name: format!("{shape}, {}", pass.name()),
        shape: shape.sizes.clone(),
        config: shape.config(),
        training: pass.is_training(),
        steps: 1,
        mean: 0.0,
        std: 1.0,
        poison: None,
        dtype: DType::F32,
        residual: false,
        seed: 1,
    }
}

/// Several sets of the tensors of all passes on one shape, all with the same contents.
pub(super) struct Memory {
    sets: Vec<Tensors>,
    /// Whether the sets together fit into a last-level cache.
    pub(super) is_cached: bool,
}

impl Memory {
    pub(super) fn new(gpu: &Gpu, shape: &Shape, passes: &[PlannedPass], inputs: &Inputs) -> Result<Self> {
        let bytes = passes.iter().map(PlannedPass::floor_bytes).min().unwrap_or(0);
        let sets = sets(bytes);
        let of_set = |_| Tensors::new(gpu, shape, passes, inputs);
        let tensors = (0..sets.unwrap_or(1)).map(of_set).collect::<Result<_>>()?;
        Ok(Self { sets: tensors, is_cached: sets.is_none() })
    }

    /// The first set: that on which passes are checked.
    pub(super) fn first(&self) -> &Tensors {
        &self.sets[0]
    }

    /// The pass on every set.
    pub(super) fn bind(&self, gpu: &Gpu, planned: &PlannedPass) -> Result<Vec<BoundPass>> {
        self.sets.iter().map(|tensors| tensors.bind(gpu, planned)).collect()
    }
}

/// A pass on a set of buffers.
pub(super) struct BoundPass {
    /// What must have run before.
    pub(super) before: Vec<BoundPlan>,
    /// What is timed.
    pub(super) timed: Vec<BoundPlan>,
}

/// The tensors of all passes on one shape.
pub(super) struct Tensors(BTreeMap<Binding, Tensor>);

impl Tensors {
    fn new(gpu: &Gpu, shape: &Shape, passes: &[PlannedPass], inputs: &Inputs) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (binding, values) in state(inputs) {
            tensors.insert(binding, Tensor::from_array(gpu, values.view())?);
        }
        let plans = passes.iter().flat_map(|planned| planned.before.iter().chain(&planned.timed));
        for (binding, bytes) in plans.flat_map(Plan::buffers) {
            let there: u64 = tensors.get(&binding).map_or(0, Tensor::bytes);
            if there < bytes {
                let tensor = match binding {
                    Binding::X => Tensor::from_array(gpu, inputs.xs[0].view())?,
                    Binding::Dy => Tensor::from_array(gpu, inputs.dys[0].view())?,
                    Binding::Y | Binding::Dx => Tensor::zeros(gpu, &shape.sizes, shape.layout)?,
                    _ => Tensor::zeros(gpu, &[bytes as usize / 4], Layout::ChannelsFirst)?,
                };
                tensors.insert(binding, tensor);
            }
        }
        Ok(Self(tensors))
    }

    fn bind(&self, gpu: &Gpu, planned: &PlannedPass) -> Result<BoundPass> {
        let buffers = Buffers::from_fn(|binding| {
            self.0.get(&binding).map(|tensor| BufferRegion::from((tensor.buffer(), tensor.offset())))
        });
        let bind = |plans: &[Plan]| -> Result<Vec<BoundPlan>> {
            plans.iter().map(|plan| gpu.prepare(plan)?.bind(&buffers)).collect()
        };
        Ok(BoundPass { before: bind(&planned.before)?, timed: bind(&planned.timed)? })
    }

    /// Brings the state back to where it was, and leaves nothing of the results of earlier passes.
    pub(super) fn reset(&self, inputs: &Inputs, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        for (binding, values) in state(inputs) {
            self.0.get(&binding).map(|tensor| tensor.write_array(values.view())).transpose()?;
        }
        let given = state(inputs).into_iter().map(|(binding, _)| binding).chain([Binding::X, Binding::Dy]);
        let given: Vec<Binding> = given.collect();
        for (_, tensor) in self.0.iter().filter(|(binding, _)| !given.contains(binding)) {
            encoder.clear_buffer(tensor.buffer(), 0, None);
        }
        Ok(())
    }

    /// What a pass left.
    pub(super) fn outputs(&self, pass: Pass) -> Result<Outputs> {
        let statistics = if pass.is_training() { self.values(Binding::Statistics)? } else { None };
        // Per channel: mean, what it lacks, 1 / deviation, variance.
        let of_channels = |statistic: fn(&[f64]) -> f64| -> Option<Array1<f64>> {
            Some(statistics.as_ref()?.as_slice()?.chunks_exact(4).map(statistic).collect())
        };
        let gradients = if pass.has_backward() {
            Some(StepGradients {
                dx: self.values(Binding::Dx)?.unwrap_or_default(),
                dweight: self.vector(Binding::DWeight)?,
                dbias: self.vector(Binding::DBias)?,
                dz: self.values(Binding::Dz)?,
                scales: GradientScales::default(),
            })
        } else {
            None
        };
        let step = Step {
            y: self.values(Binding::Y)?.unwrap_or_default(),
            batch_mean: of_channels(|channel| channel[0] + channel[1]),
            batch_var: of_channels(|channel| channel[3]),
            running_mean: self.vector(Binding::RunningMean)?,
            running_var: self.vector(Binding::RunningVar)?,
            num_batches_tracked: self.count()?,
            gradients,
        };
        Ok(Outputs { steps: vec![step] })
    }

    fn values(&self, binding: Binding) -> Result<Option<ArrayD<f64>>> {
        let values = self.0.get(&binding).map(Tensor::to_array).transpose()?;
        Ok(values.map(|values| values.mapv(f64::from)))
    }

    fn vector(&self, binding: Binding) -> Result<Option<Array1<f64>>> {
        Ok(self.values(binding)?.map(|values| values.into_iter().collect()))
    }

    fn count(&self) -> Result<Option<u64>> {
        let words = self.0.get(&Binding::NumBatchesTracked).map(Tensor::to_array).transpose()?;
        // Low half first.
        let shifted = |(k, word): (usize, &f32)| u64::from(word.to_bits()) << (32 * k);
        Ok(words.map(|words| words.iter().enumerate().map(shifted).sum()))
    }
}

/// Parameters and running statistics before a pass, as their buffers hold them.
fn state(inputs: &Inputs) -> Vec<(Binding, Array1<f32>)> {
    let state = &inputs.state;
    let count = state.num_batches_tracked.map(|count| {
        // The two halves of the integer, seen as f32.
        [count as u32, (count >> 32) as u32].map(f32::from_bits).into_iter().collect()
    });
    let vectors = [
        (Binding::Weight, state.weight.clone()),
        (Binding::Bias, state.bias.clone()),
        (Binding::RunningMean, state.running_mean.clone()),
        (Binding::RunningVar, state.running_var.clone()),
        (Binding::NumBatchesTracked, count),
    ];
    vectors.into_iter().filter_map(|(binding, values)| Some((binding, values?))).collect()
}
