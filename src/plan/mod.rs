//! Plans: which kernels run for a problem on an adapter, and with what geometry.
//!
//! Planning is a pure function: no GPU is touched, and the same input gives the same plan. A plan can be
//! printed.

mod arithmetic;
mod backward;
mod display;
mod forward;
mod grid;
mod tile;
mod tuning;

pub(crate) use backward::backward_width;
pub use tuning::Tuning;

use crate::config::BatchNormConfig;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernels::{
    Access, Binding, Kernel, PARTIAL_BYTES, PROJECTION_BYTES, Params, STATISTICS_BYTES, Statistics,
    VectorWidth,
};
use crate::layout::Layout;
use crate::profile::AdapterProfile;
use crate::shape::Problem;
use arithmetic::u32_of;
use grid::{Division, GridPlanner};
use tile::held_width;

/// One dispatch of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The kernel.
    pub kernel: Kernel,
    /// Workgroups in each dimension.
    pub grid: [u32; 3],
    /// The first of the channels that it is for, and how many these are: all, or a group of them.
    pub channels: (u32, u32),
}

/// Which gradients are wanted. What is not wanted is neither computed nor allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// dx.
    pub input: bool,
    /// dweight. Without affine there is none, wanted or not.
    pub weight: bool,
    /// dbias. Without affine there is none, wanted or not.
    pub bias: bool,
    /// dz, the gradient of what is added before the activation. Where nothing is, there is none, wanted or not.
    pub residual: bool,
}

impl Wanted {
    /// All of them.
    pub const ALL: Self = Self { input: true, weight: true, bias: true, residual: true };
    /// dx and dz, as for frozen parameters.
    pub const INPUT: Self = Self { input: true, weight: false, bias: false, residual: true };
    /// dweight and dbias, as for the first layer of a network.
    pub const PARAMETERS: Self = Self { input: false, weight: true, bias: true, residual: false };
}

impl Default for Wanted {
    fn default() -> Self {
        Self::ALL
    }
}

/// How a forward pass is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ForwardOptions {
    /// Whether y overwrites x.
    pub in_place: bool,
    /// Whether a tensor z is added before the activation.
    pub residual: bool,
    /// The element type of x, y and z.
    pub dtype: DType,
}

/// How a backward pass is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct BackwardOptions {
    /// Which gradients are wanted.
    pub wanted: Wanted,
    /// Whether dx overwrites dy.
    pub in_place: bool,
    /// Whether dweight and dbias are added to what their buffers hold.
    pub accumulate: bool,
    /// Whether a tensor z was added before the activation.
    pub residual: bool,
    /// The element type of x, dy, dx, z and dz.
    pub dtype: DType,
}

/// How many workgroups a kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// One, whatever the channels.
    Once,
    /// So many, for all channels.
    Workgroups(usize),
    /// So many for each channel.
    EachChannel(usize),
    /// One for so many channels.
    Channels(u32),
}

impl Work {
    /// What a division of planes or columns takes.
    fn of(division: &Division) -> Self {
        match division.traversal.is_columns() {
            true => Self::Workgroups(division.workgroups),
            false => Self::EachChannel(division.splits.count as usize),
        }
    }

    fn workgroups(self, channels: usize) -> usize {
        match self {
            Self::Once => 1,
            Self::Workgroups(workgroups) => workgroups,
            Self::EachChannel(workgroups) => workgroups * channels,
            Self::Channels(at_once) => channels.div_ceil(at_once as usize),
        }
    }
}

/// Forward or backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Forward,
    Backward,
}

/// What runs for one problem on one adapter. See the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pass: Pass,
    problem: Problem,
    training: bool,
    in_place: bool,
    dtype: DType,
    /// Tensors that are read and written beside x and y, or x, dy and dx.
    extra_tensors: u64,
    /// Kernels in order, before they become steps.
    stages: Vec<(Kernel, Work)>,
    steps: Vec<Step>,
    params: Params,
    width: VectorWidth,
    /// The plan for tensors that do not begin where this one needs them to.
    unaligned: Option<Box<Plan>>,
}

impl Plan {
    /// A plan without steps.
    fn new(
        pass: Pass,
        width: VectorWidth,
        problem: &Problem,
        config: &BatchNormConfig,
        training: bool,
        (in_place, dtype): (bool, DType),
    ) -> Result<Self> {
        config.validate()?;
        let shape = [problem.outer, problem.channels, problem.inner];
        config.problem(&shape, Layout::ChannelsFirst, training)?;
        let momentum = config.momentum.unwrap_or(0.0);
        let params = Params {
            outer: u32_of(problem.outer),
            channels: u32_of(problem.channels),
            inner: u32_of(problem.inner),
            values: u32_of(problem.values_per_channel()),
            group_channels: u32_of(problem.channels),
            eps: config.eps as f32,
            momentum: momentum as f32,
            retain: (1.0 - momentum) as f32,
            skip_non_finite: config.skip_non_finite.into(),
            slope: config.activation.slope() as f32,
            ..Params::default()
        };
        Ok(Self {
            pass,
            problem: *problem,
            training,
            in_place,
            dtype,
            extra_tensors: 0,
            stages: Vec::new(),
            steps: Vec::new(),
            params,
            width,
            unaligned: None,
        })
    }

    /// Adds a kernel that reduces every channel.
    fn push_reduction(&mut self, division: Division, kernel: Kernel) {
        self.params.reduce = division.splits;
        self.stages.push((kernel, Work::of(&division)));
    }

    /// Adds a kernel whose workgroups keep whole channels in registers.
    fn push_resident(&mut self, kernel: Kernel, workgroups: usize) {
        self.params.reduce.count = 1;
        self.stages.push((kernel, Work::Workgroups(workgroups)));
    }

    /// Adds an elementwise kernel.
    fn push_elementwise(&mut self, division: Division, kernel: Kernel) {
        self.params.map = division.splits;
        self.stages.push((kernel, Work::of(&division)));
    }

    /// Makes steps of the stages: all of them for one group of channels after the other.
    fn lay_out(&mut self, geometry: &GridPlanner<'_>) {
        let stages = std::mem::take(&mut self.stages);
        let (once, repeated): (Vec<_>, Vec<_>) =
            stages.into_iter().partition(|(_, work)| matches!(work, Work::Once));
        // What is one dispatch reads nothing that another one did.
        let groups = if repeated.len() > 1 { geometry.groups() } else { vec![(0, self.problem.channels)] };
        let all = once.iter().map(|&stage| (stage, (0, self.problem.channels)));
        let grouped = groups.iter().flat_map(|&group| repeated.iter().map(move |&stage| (stage, group)));
        self.steps = all
            .chain(grouped)
            .map(|((kernel, work), (first, channels))| Step {
                kernel,
                grid: geometry.grid(work.workgroups(channels)),
                channels: (u32_of(first), u32_of(channels)),
            })
            .collect();
    }

    /// The problem that was planned.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Whether this is a forward pass.
    pub fn is_forward(&self) -> bool {
        self.pass == Pass::Forward
    }

    /// Whether the forward pass is in training mode.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// Whether y overwrites x, or dx overwrites dy.
    pub fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// The element type of the tensors.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dispatches, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Every kernel that the plan may need, once: those of its steps, and those for tensors that do not begin where
    /// its loads need them to.
    pub fn kernels(&self) -> Vec<Kernel> {
        let mut kernels: Vec<Kernel> = Vec::new();
        for step in self.steps.iter().chain(self.unaligned().into_iter().flat_map(|plan| &plan.steps)) {
            if !kernels.contains(&step.kernel) {
                kernels.push(step.kernel);
            }
        }
        kernels
    }

    /// The groups of channels that steps are for: the first channel of each, and how many there are.
    pub(crate) fn groups(&self) -> Vec<(u32, u32)> {
        let mut groups: Vec<_> = self.steps.iter().map(|step| step.channels).collect();
        groups.dedup();
        groups
    }

    /// The uniform, but for the offsets of the tensors and what is different for groups of channels.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// How many elements are loaded at once. Tensors that do not begin at a multiple of as many are bound to a
    /// plan that loads them one by one.
    pub fn width(&self) -> VectorWidth {
        self.width
    }

    pub(crate) fn unaligned(&self) -> Option<&Self> {
        self.unaligned.as_deref()
    }

    /// In place, x is bound as y and dy as dx.
    pub(crate) fn bound_as(&self, binding: Binding) -> Binding {
        match (self.in_place, self.pass, binding) {
            (true, Pass::Forward, Binding::X) => Binding::Y,
            (true, Pass::Backward, Binding::Dy) => Binding::Dx,
            _ => binding,
        }
    }

    /// The buffers to give to [`PreparedPlan::bind`](crate::PreparedPlan::bind), with the bytes each must
    /// hold. All need [`wgpu::BufferUsages::STORAGE`].
    pub fn buffers(&self) -> Vec<(Binding, u64)> {
        let kernels = self.kernels();
        let mut bindings: Vec<Binding> = kernels
            .iter()
            .flat_map(Kernel::bindings)
            .filter(|(_, access)| *access != Access::Uniform)
            .map(|(binding, _)| self.bound_as(binding))
            .collect();
        bindings.sort_unstable();
        bindings.dedup();
        bindings.into_iter().map(|binding| (binding, self.bytes_of(binding))).collect()
    }

    /// Bytes of the elements of a tensor.
    pub(crate) fn tensor_bytes(&self) -> u64 {
        self.problem.elements() as u64 * self.dtype.bytes()
    }

    /// Bytes that `binding` must hold in this plan: whole words.
    pub fn bytes_of(&self, binding: Binding) -> u64 {
        let channels = self.problem.channels as u64;
        match binding {
            Binding::Params => size_of::<Params>() as u64,
            Binding::X | Binding::Y | Binding::Z | Binding::Dy | Binding::Dx | Binding::Dz => {
                self.tensor_bytes().next_multiple_of(4)
            }
            Binding::Statistics => channels * STATISTICS_BYTES,
            Binding::Projections => channels * PROJECTION_BYTES,
            Binding::Weight
            | Binding::Bias
            | Binding::RunningMean
            | Binding::RunningVar
            | Binding::DWeight
            | Binding::DBias => channels * 4,
            Binding::NumBatchesTracked => 8,
            // Not nothing, even where an empty batch leaves no partial results to merge.
            Binding::Partials => {
                let bytes = channels * u64::from(self.params.reduce.count.max(1)) * PARTIAL_BYTES;
                self.unaligned().map_or(bytes, |other| bytes.max(other.bytes_of(binding)))
            }
        }
    }

    /// Bytes of scratch in all: [`Binding::Partials`] and [`Binding::Projections`], where they are needed.
    pub fn scratch_bytes(&self) -> u64 {
        let scratch = [Binding::Partials, Binding::Projections];
        self.buffers().iter().filter(|(binding, _)| scratch.contains(binding)).map(|(_, bytes)| bytes).sum()
    }

    /// Bytes that the plan reads from and writes to memory, tensors only.
    pub fn bytes_moved(&self) -> u64 {
        // What one dispatch reads twice is in the cache; in place, one binding is read and written.
        let moved = self.steps.iter().map(|step| {
            let bindings = step.kernel.bindings();
            let tensors = bindings.iter().filter(|(binding, _)| Binding::TENSORS.contains(binding)).count();
            tensors + usize::from(step.kernel.is_in_place())
        });
        // Groups are parts of the tensor.
        let bytes = |step: &Step| {
            self.problem.values_per_channel() as u64 * self.dtype.bytes() * u64::from(step.channels.1)
        };
        moved.zip(&self.steps).map(|(tensors, step)| tensors as u64 * bytes(step)).sum()
    }

    /// Bytes that any pass must move: forward, x read and y written; backward, x and dy read and dx written; and
    /// z read and dz written, where they are needed.
    pub fn floor_bytes(&self) -> u64 {
        let tensors = match self.pass {
            Pass::Forward => 2,
            Pass::Backward => 3,
        };
        (tensors + self.extra_tensors) * self.tensor_bytes()
    }

    fn check_limits(&self, profile: &AdapterProfile) -> Result<()> {
        let limits = &profile.limits;
        for (binding, bytes) in self.buffers() {
            let limit = limits.max_storage_buffer_binding_size;
            if bytes > limit {
                return Err(Error::BindingTooLarge { name: binding.name(), bytes, limit });
            }
        }
        for step in &self.steps {
            let checks = [
                (
                    "max_storage_buffers_per_shader_stage",
                    limits.max_storage_buffers_per_shader_stage,
                    step.kernel.storage_buffers(),
                ),
                (
                    "max_compute_workgroups_per_dimension",
                    limits.max_compute_workgroups_per_dimension,
                    step.grid[1],
                ),
                (
                    "max_compute_workgroup_storage_size",
                    limits.max_compute_workgroup_storage_size,
                    step.kernel.workgroup_memory(),
                ),
            ];
            for (limit, available, needed) in checks {
                if available < needed {
                    return Err(Error::Limit { limit, needed: needed.into(), available: available.into() });
                }
            }
        }
        Ok(())
    }
}

/// What a problem lets be loaded at once.
pub(crate) fn width(problem: &Problem) -> VectorWidth {
    // Planes of two or three elements are not worth a load of four each.
    let long = problem.inner == 1 || problem.inner >= 4;
    if long && problem.elements().is_multiple_of(4) { VectorWidth::Four } else { VectorWidth::Scalar }
}

/// The plan of this width, and where that is more than one, beside it the plan for unaligned tensors.
fn with_fallback(
    problem: &Problem,
    profile: &AdapterProfile,
    width: VectorWidth,
    tuning: Tuning,
    plan: impl Fn(&GridPlanner<'_>, VectorWidth) -> Result<Plan>,
) -> Result<Plan> {
    let mut planned = plan(&GridPlanner::new(problem, width, profile, tuning), width)?;
    if width != VectorWidth::Scalar {
        let tuning = Tuning::new(problem, VectorWidth::Scalar, profile);
        let unaligned =
            plan(&GridPlanner::new(problem, VectorWidth::Scalar, profile, tuning), VectorWidth::Scalar)?;
        planned.unaligned = Some(Box::new(unaligned));
    }
    Ok(planned)
}

/// Whether workgroups hold channels, of so many `tensors`.
fn is_held(
    problem: &Problem,
    width: VectorWidth,
    profile: &AdapterProfile,
    tuning: Tuning,
    tensors: u32,
) -> bool {
    GridPlanner::new(problem, width, profile, tuning).held(tensors).is_some()
}

/// Turns the resident kernel off if it would need scalar 16-bit stores, which are atomic, although loads of four are
/// possible. f16 that needs no words is planned alike, so that results are the same on every device.
fn without_scalar_packed_tile(tuning: Tuning, problem: &Problem, dtype: DType) -> Tuning {
    let one_by_one = dtype != DType::F32
        && held_width(problem) == VectorWidth::Scalar
        && width(problem) == VectorWidth::Four;
    Tuning { held: if one_by_one { 0 } else { tuning.held }, ..tuning }
}

fn statistics(config: &BatchNormConfig, training: bool) -> Statistics {
    if config.uses_batch_statistics(training) { Statistics::Batch } else { Statistics::Running }
}
