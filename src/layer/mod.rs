//! The layer: parameters and running statistics on the GPU, and the code that its passes share.

/// Methods that set one tensor each.
macro_rules! tensor_setters {
    ($($(#[$doc:meta])* $field:ident;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $field(self, $field: impl Into<Option<Tensor>>) -> Self {
                Self { $field: $field.into(), ..self }
            }
        )*
    };
}

mod arrays;
mod backward;
mod forward;
mod infer;
mod parameters;
mod warm_up;

pub use arrays::ArrayGradients;
pub use backward::{GradientWrite, Gradients, Saved};
pub use parameters::LayerTensors;

use crate::config::BatchNormConfig;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::transfer::{self, Readback, Region};
use crate::kernels::Binding;
use crate::layer::arrays::ArrayBuffers;
use crate::layout::Layout;
use crate::lru::LruCache;
use crate::mode::Mode;
use crate::plan::{BackwardOptions, ForwardOptions, Plan, PlanInput};
use crate::record::{Buffers, PreparedPlan};
use crate::shape::Problem;
use crate::state::BatchNormState;
use crate::tensor::Tensor;
use crate::tensor::memory::ReusableBuffer;
use ndarray::Array1;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Prepared plans that a layer caches: enough for the passes of a few shapes.
const PLANS_KEPT: usize = 16;

/// Batch normalization over the channels of a tensor of rank 2 to 5: PyTorch's `BatchNorm1d`,
/// `BatchNorm2d` and `BatchNorm3d` in one.
///
/// For each channel c, with x_hat = (x − mean) / sqrt(var + eps):
///
/// ```text
/// y = activation(weight[c] · x_hat + bias[c])
/// ```
///
/// The activation is the identity unless [`BatchNormConfig::activation`] sets another.
/// [`forward_add`](Self::forward_add) adds a tensor before the activation. Tensors are f32, f16 or bf16. Parameters,
/// statistics and all arithmetic are f32.
///
/// - In training, and in eval without running statistics, mean and var are the batch statistics. var is the biased
///   variance (÷ n). Training updates the running statistics:
///   `running_mean = (1 − momentum)·running_mean + momentum·mean`, and likewise `running_var`, with the **unbiased**
///   variance (÷ (n − 1)).
/// - In eval with running statistics, mean and var are the running ones, and nothing is updated.
///
/// A new layer is in training mode, with weight 1, bias 0, running mean 0 and running variance 1.
/// Source: Ioffe and Szegedy, *Batch Normalization* (2015, arXiv:1502.03167), algorithms 1 and 2; PyTorch
/// where the paper leaves a choice.
///
/// An error leaves the layer unchanged.
///
/// ```no_run
/// use wgpu_batchnorm::{BatchNorm, BatchNormConfig, Gpu, Tensor, ndarray::Array4};
///
/// let gpu = Gpu::new()?;
/// let mut bn = BatchNorm::new(&gpu, BatchNormConfig::new(3))?;
/// let x = Tensor::from_array(&gpu, Array4::<f32>::zeros((8, 3, 28, 28)).view())?;
/// let y = bn.forward(&x)?;
/// bn.eval();
/// let y = bn.forward(&x)?.to_array()?;
/// # Ok::<(), wgpu_batchnorm::Error>(())
/// ```
///
/// A clone shares the parameters and the running statistics, as a cloned [`Tensor`] shares its memory, and has its own mode
/// and its own last pass. A layer with a copy of them is `BatchNorm::with_state(layer.gpu(), layer.config().clone(),
/// &layer.state()?)`.
///
/// It displays as PyTorch's module does: `BatchNorm(16, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)`.
#[derive(Debug)]
pub struct BatchNorm {
    pub(crate) gpu: Gpu,
    pub(crate) config: BatchNormConfig,
    pub(crate) mode: Mode,
    tensors: LayerTensors,
    num_batches_tracked: Option<wgpu::Buffer>,
    /// Batch statistics of the last forward pass, if it used them: [C, 4].
    pub(crate) statistics: Option<Tensor>,
    /// What backward needs of the last forward pass. `None` if that pass overwrote its input.
    pub(crate) saved: Option<Saved>,
    /// Plans of the last passes. A pass with the same key is not planned again.
    plans: Mutex<LruCache<PlanKey, PreparedPlan>>,
    /// Scratch, as large as the largest need of any pass so far.
    partials: Option<wgpu::Buffer>,
    projections: Option<wgpu::Buffer>,
    /// Memory for the next statistics, reused unless the last ones are still referenced.
    pub(crate) statistics_memory: ReusableBuffer,
    pub(crate) arrays: ArrayBuffers,
}

/// Everything that the plan of a pass depends on, within one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlanKey {
    pub(crate) problem: Problem,
    pub(crate) mode: Mode,
    pub(crate) pass: Pass,
}

impl PlanKey {
    /// Plans the pass of a layer with these options, and compiles its kernels.
    fn prepare(self, gpu: &Gpu, config: &BatchNormConfig) -> Result<PreparedPlan> {
        let tunings = gpu.tunings();
        let input = PlanInput::new(&self.problem, config, self.mode, gpu.profile());
        gpu.prepare(&match self.pass {
            Pass::Forward(options) => tunings.forward(&input, &options)?,
            Pass::Backward(options) => tunings.backward(&input, &options)?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Forward(ForwardOptions),
    Backward(BackwardOptions),
}

/// Batch statistics of a forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStatistics {
    /// Mean of each channel.
    pub mean: Array1<f32>,
    /// Remainder of `mean`: the exact mean is nearer to `mean + mean_remainder` than to any f32.
    pub mean_remainder: Array1<f32>,
    /// Biased variance (÷ n) of each channel.
    pub var: Array1<f32>,
    /// 1 / sqrt(var + eps).
    pub inv_std: Array1<f32>,
}

impl BatchNorm {
    /// Creates a layer in training mode.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`]; [`Error::BindingTooLarge`] if the device cannot bind one number per channel at once;
    /// [`Error::OutOfMemory`]; [`Error::DeviceLost`].
    pub fn new(gpu: &Gpu, config: BatchNormConfig) -> Result<Self> {
        config.validate()?;
        // Asks the device before the host's memory is filled.
        gpu.check_alive()?;
        let bytes = Tensor::bytes_of(DType::F32, &[config.num_features]);
        let limit = gpu.profile().limits.max_storage_buffer_binding_size;
        if bytes > limit {
            return Err(Error::BindingTooLarge { name: Binding::Weight.name(), bytes, limit });
        }
        let state = BatchNormState::new(&config);
        Self::with_state(gpu, config, &state)
    }

    /// Creates a layer in training mode with the given parameters and running statistics.
    ///
    /// # Errors
    /// [`Error::StateMismatch`](crate::Error::StateMismatch),
    /// [`Error::ParameterLength`](crate::Error::ParameterLength). As [`new`](Self::new).
    pub fn with_state(gpu: &Gpu, config: BatchNormConfig, state: &BatchNormState) -> Result<Self> {
        gpu.check_alive()?;
        config.validate()?;
        state.validate(&config)?;
        let shape = [config.num_features];
        let vector =
            |present: bool| present.then(|| Tensor::zeros(gpu, &shape, Layout::ChannelsFirst)).transpose();
        let tensors = LayerTensors {
            weight: vector(state.weight.is_some())?,
            bias: vector(state.bias.is_some())?,
            running_mean: vector(state.running_mean.is_some())?,
            running_var: vector(state.running_var.is_some())?,
        };
        let mut layer = Self::over(gpu, config, tensors)?;
        layer.load_state(state)?;
        Ok(layer)
    }

    /// Creates a layer over these tensors, which fit.
    fn over(gpu: &Gpu, config: BatchNormConfig, tensors: LayerTensors) -> Result<Self> {
        let count = || gpu.storage_buffer(Binding::NumBatchesTracked.name(), 8);
        let num_batches_tracked = config.track_running_stats.then(count).transpose()?;
        Ok(Self::before_any_pass(gpu.clone(), config, tensors, num_batches_tracked))
    }

    /// Returns a layer in training mode that has nothing of a pass yet.
    fn before_any_pass(
        gpu: Gpu,
        config: BatchNormConfig,
        tensors: LayerTensors,
        num_batches_tracked: Option<wgpu::Buffer>,
    ) -> Self {
        Self {
            gpu,
            config,
            mode: Mode::Train,
            tensors,
            num_batches_tracked,
            statistics: None,
            saved: None,
            plans: Mutex::new(LruCache::new(PLANS_KEPT)),
            partials: None,
            projections: None,
            statistics_memory: ReusableBuffer::default(),
            arrays: ArrayBuffers::default(),
        }
    }

    /// Returns the options.
    pub fn config(&self) -> &BatchNormConfig {
        &self.config
    }

    /// Returns the GPU that the layer runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Switches to training mode.
    pub fn train(&mut self) {
        self.mode = Mode::Train;
    }

    /// Switches to eval mode.
    pub fn eval(&mut self) {
        self.mode = Mode::Eval;
    }

    /// Returns the mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Sets the mode, as [`train`](Self::train) and [`eval`](Self::eval) do.
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// Returns whether the layer is in training mode.
    pub fn is_training(&self) -> bool {
        self.mode.is_training()
    }

    /// Reads parameters and running statistics back.
    ///
    /// # Errors
    /// [`Error::Readback`](crate::Error::Readback).
    pub fn state(&self) -> Result<BatchNormState> {
        let LayerTensors { weight, bias, running_mean, running_var } = &self.tensors;
        let vectors = [weight, bias, running_mean, running_var];
        let mut regions: Vec<Region<'_>> = vectors.into_iter().flatten().map(Tensor::region).collect();
        regions.extend(self.num_batches_tracked.iter().map(|buffer| (buffer, 0, 8)));
        let take = |parts: &[&[u8]]| parts.iter().map(|part| part.to_vec()).collect::<Vec<_>>();
        let mut parts = Readback::start(&self.gpu, &regions)?.wait(take)?.0.into_iter();
        let mut next = |present: bool| present.then(|| parts.next().unwrap_or_default());
        let [weight, bias, running_mean, running_var] = vectors
            .map(|vector| next(vector.is_some()).map(|part| Array1::from_vec(transfer::values(&part))));
        let num_batches_tracked =
            next(self.num_batches_tracked.is_some()).map(|part| bytemuck::pod_read_unaligned(&part));
        Ok(BatchNormState { weight, bias, running_mean, running_var, num_batches_tracked })
    }

    /// Replaces parameters and running statistics, in their existing buffers. On an error, nothing is replaced.
    ///
    /// # Errors
    /// [`Error::StateMismatch`](crate::Error::StateMismatch),
    /// [`Error::ParameterLength`](crate::Error::ParameterLength),
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::Gpu`](crate::Error::Gpu).
    pub fn load_state(&mut self, state: &BatchNormState) -> Result<()> {
        state.validate(&self.config)?;
        let LayerTensors { weight, bias, running_mean, running_var } = &self.tensors;
        let vectors = [
            (weight, &state.weight),
            (bias, &state.bias),
            (running_mean, &state.running_mean),
            (running_var, &state.running_var),
        ];
        let present = vectors.into_iter().filter_map(|(tensor, vector)| tensor.as_ref().zip(vector.as_ref()));
        let vectors: Vec<_> =
            present.map(|(tensor, vector)| (tensor.region(), vector.as_standard_layout())).collect();
        let count = state.num_batches_tracked.unwrap_or_default().to_le_bytes();
        let of_vectors = vectors
            .iter()
            .map(|(region, vector)| (*region, bytemuck::cast_slice(vector.as_slice().unwrap_or_default())));
        let of_count = self.num_batches_tracked.iter().map(|buffer| ((buffer, 0, 8), &count[..]));
        transfer::write_words(&self.gpu, &of_vectors.chain(of_count).collect::<Vec<_>>())
    }

    /// Reads the batch statistics of the last forward pass back. `None` before the first pass, and after a pass that
    /// used running statistics or had an empty batch.
    ///
    /// # Errors
    /// [`Error::Readback`](crate::Error::Readback).
    pub fn batch_statistics(&self) -> Result<Option<BatchStatistics>> {
        let Some(statistics) = &self.statistics else { return Ok(None) };
        let values = statistics.to_array()?;
        let column = |index: usize| values.iter().skip(index).step_by(4).copied().collect();
        Ok(Some(BatchStatistics {
            mean: column(0),
            mean_remainder: column(1),
            inv_std: column(2),
            var: column(3),
        }))
    }

    /// Returns what [`backward`](Self::backward) needs of the last forward pass. `None` before the first pass, after a pass
    /// in place, and after a pass on a tensor in eval, of which the layer keeps nothing
    /// ([`forward_saved`](Self::forward_saved) returns it there). After a recorded pass, it is there at once.
    pub fn saved(&self) -> Option<Saved> {
        self.saved.clone()
    }

    /// Drops [`saved`](Self::saved), and with it the handle to the last input. Call it if no backward pass follows.
    /// The buffer of an uploaded array stays for the next one, until [`release_buffers`](Self::release_buffers).
    pub fn clear_saved(&mut self) {
        self.saved = None;
    }

    /// Frees the memory that is kept only for the next call: scratch, and after calls with arrays, buffers as large
    /// as the largest call needed. The latter are two on the GPU (up to four if a tensor was added), and two for the
    /// transfers. Also drops the cached plans.
    ///
    /// What backward needs of the last forward pass stays, until [`clear_saved`](Self::clear_saved). Dropping the
    /// layer frees everything, too.
    pub fn release_buffers(&mut self) {
        self.plans = Mutex::new(LruCache::new(PLANS_KEPT));
        (self.partials, self.projections) = (None, None);
        self.statistics_memory = ReusableBuffer::default();
        self.arrays = ArrayBuffers::default();
    }

    /// Returns the prepared plan from the cache, or prepares it.
    pub(crate) fn prepare(&self, key: PlanKey) -> Result<Arc<PreparedPlan>> {
        self.plans().get(key, || key.prepare(&self.gpu, &self.config))
    }

    /// Puts the prepared plan into the cache, without blocking: another thread prepares it.
    pub(crate) async fn prepare_async(&self, key: PlanKey) -> Result<()> {
        if self.plans().contains(&key) {
            return Ok(());
        }
        let (gpu, config) = (self.gpu.clone(), self.config.clone());
        let prepared = self.gpu.in_background(move || key.prepare(&gpu, &config)).await?;
        self.plans().get(key, || Ok(prepared)).map(drop)
    }

    fn plans(&self) -> MutexGuard<'_, LruCache<PlanKey, PreparedPlan>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records with `record`, and submits.
    pub(crate) fn submit<T>(
        &mut self,
        record: impl FnOnce(&mut Self, &mut wgpu::CommandEncoder) -> Result<T>,
    ) -> Result<T> {
        let gpu = self.gpu.clone();
        gpu.scoped(|| {
            let mut encoder = gpu.encoder();
            let recorded = record(self, &mut encoder)?;
            gpu.queue().submit([encoder.finish()]);
            Ok(recorded)
        })
    }

    /// Marks tensors as shared: the caller submits commands that use them, at an unknown time.
    pub(crate) fn mark_shared(&self, tensors: &[Option<&Tensor>]) {
        tensors.iter().flatten().for_each(|tensor| tensor.mark_shared());
    }

    /// Returns the buffers of the layer itself.
    pub(crate) fn buffers(&self) -> Buffers<'_> {
        Buffers {
            weight: self.weight().map(Tensor::binding),
            bias: self.bias().map(Tensor::binding),
            running_mean: self.running_mean().map(Tensor::binding),
            running_var: self.running_var().map(Tensor::binding),
            num_batches_tracked: self.num_batches_tracked.as_ref().map(Into::into),
            partials: self.partials.as_ref().map(Into::into),
            projections: self.projections.as_ref().map(Into::into),
            ..Buffers::default()
        }
    }

    /// Grows the scratch buffers to the size that the plan needs.
    pub(crate) fn reserve_scratch(&mut self, plan: &Plan) -> Result<()> {
        for (binding, bytes) in plan.buffers() {
            let scratch = match binding {
                Binding::Partials => &mut self.partials,
                Binding::Projections => &mut self.projections,
                _ => continue,
            };
            if scratch.as_ref().map_or(0, wgpu::Buffer::size) < bytes {
                *scratch = Some(self.gpu.storage_buffer(binding.name(), bytes)?);
            }
        }
        Ok(())
    }
}

impl Clone for BatchNorm {
    fn clone(&self) -> Self {
        let (tensors, count) = (self.tensors.clone(), self.num_batches_tracked.clone());
        let layer = Self::before_any_pass(self.gpu.clone(), self.config.clone(), tensors, count);
        Self { mode: self.mode, ..layer }
    }
}

impl fmt::Display for BatchNorm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pass, PlanKey};
    use crate::config::BatchNormConfig;
    use crate::error::Result;
    use crate::gpu::Gpu;
    use crate::kernels::VectorWidth;
    use crate::layer::BatchNorm;
    use crate::layout::Layout;
    use crate::mode::Mode;
    use crate::plan::{BackwardOptions, Direction, ForwardOptions, Plan, PlanInput, Tuning};
    use crate::shape::Problem;
    use crate::tensor::Tensor;
    use crate::tunings::Tunings;

    #[test]
    fn a_layer_plans_by_the_tunings_of_its_gpu() -> Result<()> {
        let gpu = Gpu::new()?;
        let (config, problem) = (BatchNormConfig::new(2), Problem { outer: 64, channels: 2, inner: 1024 });
        let heuristic = Tuning::new(&problem, VectorWidth::Four, gpu.profile());
        let tuning = Tuning { splits: heuristic.splits * 2 + 6, ..heuristic };
        let options = BackwardOptions::default();
        let in_place = ForwardOptions::new().in_place(true);
        let input = PlanInput::new(&problem, &config, Mode::Train, gpu.profile());
        let plans = |input: PlanInput<'_>| -> Result<[Plan; 2]> {
            Ok([Plan::forward(&input, &in_place)?, Plan::backward(&input, &options)?])
        };
        let passes = [Pass::Forward(in_place), Pass::Backward(options)];
        let planned = |layer: &mut BatchNorm| {
            let plan = |pass| Ok(layer.prepare(PlanKey { problem, mode: Mode::Train, pass })?.plan().clone());
            passes.map(plan).into_iter().collect::<Result<Vec<_>>>()
        };
        let without = plans(input)?;
        assert_eq!(planned(&mut BatchNorm::new(&gpu, config.clone())?)?, without);

        let mut tunings = Tunings::new(gpu.profile());
        for direction in [Direction::Forward, Direction::Backward] {
            tunings.insert(&problem, &config, Mode::Train, direction, tuning);
        }
        gpu.set_tunings(tunings)?;
        let with = plans(input.tuning(tuning))?;
        assert_eq!(planned(&mut BatchNorm::new(&gpu, config.clone())?)?, with);
        assert!(with[0] != without[0] && with[1] != without[1]);
        let x = Tensor::zeros(&gpu, &[64, 2, 1024], Layout::ChannelsFirst)?;
        assert_eq!(BatchNorm::new(&gpu, config)?.plan(&x, &ForwardOptions::new().in_place(true))?, with[0]);
        Ok(())
    }
}
