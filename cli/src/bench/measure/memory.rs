//! The buffers of the timed passes.

use super::pass::{Part, PlannedPass, Slot};
use crate::bench::sets::Shape;
use std::collections::BTreeMap;
use wgpu_batchnorm::half::{bf16, f16};
use wgpu_batchnorm::internals::Pass;
use wgpu_batchnorm::kernels::Binding;
use wgpu_batchnorm::ndarray::{Array1, ArrayD};
use wgpu_batchnorm::verify::{Case, GradientScales, Inputs, Outputs, Step, StepGradients};
use wgpu_batchnorm::{BoundPlan, BufferRegion, Buffers, DType, Gpu, Layout, Result, Tensor, wgpu};

/// Bytes of other buffers that runs use before they use a buffer again. Last-level caches hold less.
pub(crate) const ROTATED_BYTES: u64 = 1 << 28;

/// Most sets of buffers. If more would be needed, the benchmark copies other memory between the runs.
const MAX_SETS: u64 = 64;

/// Returns the number of sets of buffers that runs rotate through, if each run moves this many bytes. `None` if that
/// would take more than [`MAX_SETS`].
fn sets(bytes: u64) -> Option<u64> {
    let sets = ROTATED_BYTES.div_ceil(bytes.max(1));
    (sets <= MAX_SETS).then_some(sets)
}

/// Returns the case that is checked and timed: the shape with normal data of mean 0 and standard deviation 1.
pub(crate) fn case(shape: &Shape, pass: Pass) -> Case {
    Case {
        name: format!("{shape}, {}", pass.name()),
        shape: shape.sizes.clone(),
        config: shape.config(),
        training: pass.is_training(),
        steps: 1,
        mean: 0.0,
        std: 1.0,
        poison: None,
        dtype: shape.variant.dtype,
        residual: shape.variant.add,
        seed: 1,
    }
}

/// Most elements of the images that [`repeated`] draws, unless one image has more.
const DRAWN: usize = 1 << 20;

/// Returns data like that of [`Case::inputs`], but for a few images only, which repeat. Drawing all of a large tensor
/// takes longer than timing it.
pub(crate) fn repeated(case: &Case) -> Inputs {
    let images = case.shape[0];
    let of_image: usize = case.shape[1..].iter().product();
    let mut few = case.clone();
    few.shape[0] = (DRAWN / of_image.max(1)).clamp(1, images.max(1));
    let mut inputs = few.inputs();
    for tensor in inputs.xs.iter_mut().chain(&mut inputs.dys).chain(&mut inputs.residuals) {
        let mut values = tensor.iter().copied().cycle();
        *tensor = ArrayD::from_shape_simple_fn(case.shape.as_slice(), || values.next().unwrap_or_default());
    }
    inputs
}

/// Several sets of the tensors of all passes on one shape. All sets have the same contents. They share parameters,
/// statistics and scratch, so that runs in a row wait for each other, as the passes of a network do.
pub(crate) struct Memory {
    sets: Vec<Tensors>,
    /// Whether the sets together fit into a last-level cache.
    pub(crate) is_cached: bool,
}

impl Memory {
    pub(crate) fn new(gpu: &Gpu, shape: &Shape, passes: &[PlannedPass], inputs: &Inputs) -> Result<Self> {
        let bytes = passes.iter().map(PlannedPass::floor_bytes).min().unwrap_or(0);
        let sets = sets(bytes);
        let first = Tensors::new(gpu, shape, passes, inputs, &BTreeMap::new())?;
        let shared = first.0.iter().filter(|(slot, _)| !slot.has_elements());
        let shared = shared.map(|(slot, tensor)| (*slot, tensor.clone())).collect();
        let others = (1..sets.unwrap_or(1)).map(|_| Tensors::new(gpu, shape, passes, inputs, &shared));
        let sets_of_all = std::iter::once(Ok(first)).chain(others).collect::<Result<_>>()?;
        Ok(Self { sets: sets_of_all, is_cached: sets.is_none() })
    }

    /// Returns the first set, on which passes are checked.
    pub(crate) fn first(&self) -> &Tensors {
        &self.sets[0]
    }

    /// Binds the pass to every set.
    pub(crate) fn bind(&self, gpu: &Gpu, planned: &PlannedPass) -> Result<Vec<BoundPass>> {
        self.sets.iter().map(|tensors| tensors.bind(gpu, planned)).collect()
    }
}

/// A pass, bound to a set of buffers.
pub(crate) struct BoundPass {
    /// Plans that must run before.
    pub(crate) before: Vec<BoundPlan>,
    /// Plans that are timed.
    pub(crate) timed: Vec<BoundPlan>,
}

/// The tensors of all passes on one shape.
pub(crate) struct Tensors(BTreeMap<Slot, Tensor>);

impl Tensors {
    /// Makes all tensors but the shared ones.
    fn new(
        gpu: &Gpu,
        shape: &Shape,
        passes: &[PlannedPass],
        inputs: &Inputs,
        shared: &BTreeMap<Slot, Tensor>,
    ) -> Result<Self> {
        let mut tensors = shared.clone();
        if shared.is_empty() {
            for (binding, values) in state(inputs) {
                tensors.insert(Slot::new(binding, false), Tensor::from_array(gpu, values.view())?);
            }
        }
        let parts = passes.iter().flat_map(|planned| planned.before.iter().chain(&planned.timed));
        let dtype = shape.variant.dtype;
        for part in parts {
            for (binding, bytes) in part.plan.buffers() {
                let slot = part.slot(binding);
                let there: u64 = tensors.get(&slot).map_or(0, Tensor::bytes);
                if there.next_multiple_of(4) >= bytes {
                    continue;
                }
                let tensor = match (slot.binding, slot.between) {
                    (Binding::X, false) => upload(gpu, dtype, &inputs.xs[0])?,
                    (Binding::Dy, false) => upload(gpu, dtype, &inputs.dys[0])?,
                    (Binding::Residual, false) => upload(gpu, dtype, &inputs.residuals[0])?,
                    (Binding::Y | Binding::Dx | Binding::DResidual | Binding::Dy, _) => {
                        Tensor::zeros_of(gpu, dtype, &shape.sizes, shape.layout)?
                    }
                    (Binding::RunningVar, true) => {
                        Tensor::from_array(gpu, Array1::<f32>::ones(bytes as usize / 4).view())?
                    }
                    _ => Tensor::zeros(gpu, &[bytes as usize / 4], Layout::ChannelsFirst)?,
                };
                tensors.insert(slot, tensor);
            }
        }
        Ok(Self(tensors))
    }

    fn bind(&self, gpu: &Gpu, planned: &PlannedPass) -> Result<BoundPass> {
        let bind = |part: &Part| -> Result<BoundPlan> {
            gpu.prepare(&part.plan)?.bind(&Buffers::from_fn(|binding| {
                let tensor = self.0.get(&part.slot(binding))?;
                Some(BufferRegion::from((tensor.buffer(), tensor.offset())))
            }))
        };
        let bind = |parts: &[Part]| parts.iter().map(bind).collect::<Result<Vec<_>>>();
        Ok(BoundPass { before: bind(&planned.before)?, timed: bind(&planned.timed)? })
    }

    /// Restores the initial state and clears the results of earlier passes.
    pub(crate) fn reset(&self, inputs: &Inputs, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        for (binding, values) in state(inputs) {
            let tensor = self.0.get(&Slot::new(binding, false));
            tensor.map(|tensor| tensor.write_array(values.view())).transpose()?;
        }
        let given = state(inputs).into_iter().map(|(binding, _)| binding);
        let mut given: Vec<Slot> = given
            .chain([Binding::X, Binding::Dy, Binding::Residual])
            .map(|binding| Slot::new(binding, false))
            .collect();
        given.push(Slot::new(Binding::RunningVar, true));
        for (_, tensor) in self.0.iter().filter(|(slot, _)| !given.contains(slot)) {
            encoder.clear_buffer(tensor.buffer(), 0, None);
        }
        Ok(())
    }

    /// Reads back the results of a pass.
    pub(crate) fn outputs(&self, pass: Pass) -> Result<Outputs> {
        let statistics = if pass.is_training() { self.values(Binding::Statistics)? } else { None };
        // Each channel has a mean, its remainder, 1 / deviation, and a variance.
        let of_channels = |statistic: fn(&[f64]) -> f64| -> Option<Array1<f64>> {
            Some(statistics.as_ref()?.as_slice()?.chunks_exact(4).map(statistic).collect())
        };
        let gradients = if pass.has_backward() {
            Some(StepGradients {
                dx: self.values(Binding::Dx)?.unwrap_or_default(),
                dweight: self.vector(Binding::DWeight)?,
                dbias: self.vector(Binding::DBias)?,
                // With an activation apart, dresidual is the gradient that the activation passes on.
                dresidual: self.values(Binding::DResidual)?.or(self.between(Binding::Dy)?),
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
        let values = self.0.get(&Slot::new(binding, false)).map(Tensor::to_array).transpose()?;
        Ok(values.map(|values| values.mapv(f64::from)))
    }

    /// Reads the tensor between a batch norm and an activation apart. `None` without a residual, since only a
    /// residual has a gradient dresidual.
    fn between(&self, binding: Binding) -> Result<Option<ArrayD<f64>>> {
        if !self.0.contains_key(&Slot::new(Binding::Residual, false)) {
            return Ok(None);
        }
        let values = self.0.get(&Slot::new(binding, true)).map(Tensor::to_array).transpose()?;
        Ok(values.map(|values| values.mapv(f64::from)))
    }

    fn vector(&self, binding: Binding) -> Result<Option<Array1<f64>>> {
        Ok(self.values(binding)?.map(|values| values.into_iter().collect()))
    }

    fn count(&self) -> Result<Option<u64>> {
        let words =
            self.0.get(&Slot::new(Binding::NumBatchesTracked, false)).map(Tensor::to_array).transpose()?;
        // The low half comes first.
        let shifted = |(k, word): (usize, &f32)| u64::from(word.to_bits()) << (32 * k);
        Ok(words.map(|words| words.iter().enumerate().map(shifted).sum()))
    }
}

/// Uploads values that are already rounded to this type.
fn upload(gpu: &Gpu, dtype: DType, values: &ArrayD<f32>) -> Result<Tensor> {
    match dtype {
        DType::F32 => Tensor::from_array(gpu, values.view()),
        DType::F16 => Tensor::from_array(gpu, values.mapv(f16::from_f32).view()),
        DType::BF16 => Tensor::from_array(gpu, values.mapv(bf16::from_f32).view()),
        _ => unreachable!("{dtype} is newer than this program"),
    }
}

/// Returns parameters and running statistics before a pass, as their buffers hold them.
fn state(inputs: &Inputs) -> Vec<(Binding, Array1<f32>)> {
    let state = &inputs.state;
    let count = state.num_batches_tracked.map(|count| {
        // The two halves of the integer, as bits of f32.
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

#[cfg(test)]
mod tests {
    use super::{Binding, DRAWN, Memory, PlannedPass, Slot, case, repeated};
    use crate::bench::sets::{Shape, Variant};
    use wgpu_batchnorm::internals::Pass;
    use wgpu_batchnorm::ndarray::{Array1, Axis};
    use wgpu_batchnorm::{Activation, DType, Gpu, Layout, Result};

    #[test]
    fn sets_have_tensors_of_their_own_and_share_the_rest() -> Result<()> {
        let gpu = Gpu::new()?;
        let shape = Shape::new(vec![64, 3, 128, 64], Layout::ChannelsFirst);
        let inputs = repeated(&case(&shape, Pass::Backward));
        let passes = [PlannedPass::new(&shape, Pass::Backward, gpu.profile(), &gpu.tunings())?];
        let memory = Memory::new(&gpu, &shape, &passes, &inputs)?;
        assert!(memory.sets.len() > 1 && !memory.is_cached);
        for (slot, tensor) in &memory.sets[0].0 {
            let is_shared = memory.sets[1].0.get(slot).is_some_and(|other| other.buffer() == tensor.buffer());
            assert_eq!(is_shared, !slot.has_elements(), "{slot:?}");
        }
        assert!(memory.sets[1].0.contains_key(&Slot::new(Binding::Statistics, false)));
        Ok(())
    }

    #[test]
    fn small_data_is_drawn_in_full_and_large_data_repeats() {
        let variant = Variant { dtype: DType::F16, activation: Activation::Relu, add: true, apart: false };
        let of = |sizes: &[usize]| {
            case(&Shape { variant, ..Shape::new(sizes.to_vec(), Layout::ChannelsLast) }, Pass::ForwardTrain)
        };
        let small = of(&[3, 7, 5]);
        assert_eq!(repeated(&small), small.inputs());

        let large = of(&[7, DRAWN / 20, 10]);
        let inputs = repeated(&large);
        assert_eq!(inputs.state.weight.as_ref().map_or(0, Array1::len), 10);
        for tensor in [&inputs.xs[0], &inputs.dys[0], &inputs.residuals[0]] {
            assert_eq!(tensor.shape(), large.shape);
            let image = |k| tensor.index_axis(Axis(0), k);
            assert!(image(0) == image(2) && image(1) == image(5) && image(0) != image(1));
        }
    }
}
