//! Plans: the kernels that run for a problem on an adapter, and their geometry.
//!
//! Planning is a pure function: it touches no GPU, and the same input gives the same plan. A plan can be printed.

mod arithmetic;
mod backward;
mod display;
mod forward;
mod grid;
mod input;
mod tile;
mod tuning;

pub use crate::kernels::{Storage, VectorWidth};
pub(crate) use backward::backward_width;
pub use input::{BackwardOptions, Direction, ForwardOptions, GradientMask, PlanInput};
pub(crate) use tuning::Setting;
pub use tuning::Tuning;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernels::{Access, Binding, Kernel, PARTIAL_BYTES, PROJECTION_BYTES, Params, STATISTICS_BYTES};
use crate::mode::Mode;
use crate::profile::AdapterProfile;
use crate::shape::Problem;
use arithmetic::u32_of;
use grid::{Division, GridPlanner};

/// One dispatch of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The kernel.
    pub kernel: Kernel,
    /// Workgroups in each dimension.
    pub grid: [u32; 3],
    /// The first channel and the number of channels: all channels, or a group.
    pub channels: (u32, u32),
}

/// The number of workgroups of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// One workgroup, for any number of channels.
    Once,
    /// This many workgroups for all channels.
    Workgroups(usize),
    /// This many workgroups for each channel.
    EachChannel(usize),
    /// One workgroup for this many channels.
    Channels(u32),
}

impl Work {
    /// Returns the workgroups that a division of planes or columns takes.
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

/// The dispatches for one problem on one adapter. See the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    direction: Direction,
    problem: Problem,
    mode: Mode,
    in_place: bool,
    dtype: DType,
    /// Tensors that the pass reads or writes besides x and y, or besides x, dy and dx.
    extra_tensors: u64,
    /// Kernels in order, before they become steps.
    stages: Vec<(Kernel, Work)>,
    steps: Vec<Step>,
    params: Params,
    width: VectorWidth,
    /// The plan for tensors that do not begin at a multiple of this plan's loads.
    unaligned: Option<Box<Plan>>,
}

impl Plan {
    /// Creates a plan without steps.
    fn new(
        direction: Direction,
        input: &PlanInput<'_>,
        width: VectorWidth,
        in_place: bool,
        dtype: DType,
    ) -> Self {
        let PlanInput { problem, config, mode, .. } = *input;
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
            sum_scale: 1.0 / problem.values_per_channel().next_power_of_two() as f32,
            slope: config.activation.slope() as f32,
            ..Params::default()
        };
        Self {
            direction,
            problem,
            mode,
            in_place,
            dtype,
            extra_tensors: 0,
            stages: Vec::new(),
            steps: Vec::new(),
            params,
            width,
            unaligned: None,
        }
    }

    /// Adds a kernel that reduces every channel.
    fn push_reduction(&mut self, division: Division, kernel: Kernel) {
        self.params.reduction = division.splits;
        self.stages.push((kernel, Work::of(&division)));
    }

    /// Adds a kernel that keeps whole channels in registers.
    fn push_resident(&mut self, kernel: Kernel, division: Division) {
        self.params.reduction = division.splits;
        self.stages.push((kernel, Work::Workgroups(division.workgroups)));
    }

    /// Adds an elementwise kernel.
    fn push_elementwise(&mut self, division: Division, kernel: Kernel) {
        self.params.elementwise = division.splits;
        self.stages.push((kernel, Work::of(&division)));
    }

    /// Turns stages into steps: all stages for the first group of channels, then for the next.
    fn lay_out(&mut self, grid: &GridPlanner<'_>) {
        let stages = std::mem::take(&mut self.stages);
        let (once, repeated): (Vec<_>, Vec<_>) =
            stages.into_iter().partition(|(_, work)| matches!(work, Work::Once));
        // A single dispatch reads nothing that another dispatch has read, so groups do not help it.
        let groups = if repeated.len() > 1 { grid.groups() } else { vec![(0, self.problem.channels)] };
        let all = once.iter().map(|&stage| (stage, (0, self.problem.channels)));
        let grouped = groups.iter().flat_map(|&group| repeated.iter().map(move |&stage| (stage, group)));
        self.steps = all
            .chain(grouped)
            .map(|((kernel, work), (first, channels))| Step {
                kernel,
                grid: grid.grid(work.workgroups(channels)),
                channels: (u32_of(first), u32_of(channels)),
            })
            .collect();
    }

    /// Returns the problem that was planned.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Returns whether this is a forward pass.
    pub fn is_forward(&self) -> bool {
        self.direction == Direction::Forward
    }

    /// Returns the mode of the forward pass.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns whether y overwrites x, or dx overwrites dy.
    pub fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// Returns the element type of the tensors.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the dispatches, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns every kernel that the plan may need, once: the kernels of its steps, and the kernels for unaligned
    /// tensors.
    pub fn kernels(&self) -> Vec<Kernel> {
        let mut kernels: Vec<Kernel> = Vec::new();
        let with_narrower = std::iter::successors(Some(self), |plan| plan.unaligned());
        for step in with_narrower.flat_map(|plan| &plan.steps) {
            if !kernels.contains(&step.kernel) {
                kernels.push(step.kernel);
            }
        }
        kernels
    }

    /// Returns the buffers of the plan and of its [`unaligned`](Self::unaligned) one, and whether any dispatch writes
    /// to them.
    pub(crate) fn accesses(&self) -> Vec<(Binding, Access)> {
        let mut accesses: Vec<(Binding, Access)> = Vec::new();
        for (binding, access) in self.kernels().iter().flat_map(Kernel::bindings) {
            let binding = self.bound_as(binding);
            match accesses.iter_mut().find(|(known, _)| *known == binding) {
                _ if access == Access::Uniform => {}
                None => accesses.push((binding, access)),
                Some((_, known)) if access == Access::ReadWrite => *known = access,
                Some(_) => {}
            }
        }
        accesses.sort_unstable_by_key(|(binding, _)| *binding);
        accesses
    }

    /// Returns the groups of channels of the steps: the first channel and the length of each.
    pub(crate) fn groups(&self) -> Vec<(u32, u32)> {
        let mut groups: Vec<_> = self.steps.iter().map(|step| step.channels).collect();
        groups.dedup();
        groups
    }

    /// Returns the uniform, without the tensor offsets and the values that differ between groups of channels.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Returns how many elements are loaded at once. A tensor that does not begin at a multiple of this number is bound
    /// to a plan with narrower loads.
    pub fn width(&self) -> VectorWidth {
        self.width
    }

    pub(crate) fn unaligned(&self) -> Option<&Self> {
        self.unaligned.as_deref()
    }

    /// Returns the binding that stands for `binding`. In place, x is bound as y and dy as dx.
    pub(crate) fn bound_as(&self, binding: Binding) -> Binding {
        match (self.in_place, self.direction, binding) {
            (true, Direction::Forward, Binding::X) => Binding::Y,
            (true, Direction::Backward, Binding::Dy) => Binding::Dx,
            _ => binding,
        }
    }

    /// Returns the buffers for [`PreparedPlan::bind`](crate::PreparedPlan::bind), with the bytes that each must hold.
    /// All need [`wgpu::BufferUsages::STORAGE`].
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

    /// Returns the bytes of a tensor's elements.
    pub(crate) fn tensor_bytes(&self) -> u64 {
        self.problem.elements() as u64 * self.dtype.bytes()
    }

    /// Returns the bytes that `binding` must hold in this plan: whole words.
    pub fn bytes_of(&self, binding: Binding) -> u64 {
        let channels = self.problem.channels as u64;
        match binding {
            Binding::Params => size_of::<Params>() as u64,
            Binding::X | Binding::Y | Binding::Residual | Binding::Dy | Binding::Dx | Binding::DResidual => {
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
            // At least one partial result, even if an empty batch leaves none to merge.
            Binding::Partials => {
                let bytes = channels * u64::from(self.params.reduction.count.max(1)) * PARTIAL_BYTES;
                self.unaligned().map_or(bytes, |other| bytes.max(other.bytes_of(binding)))
            }
        }
    }

    /// Returns the bytes of scratch in all: [`Binding::Partials`] and [`Binding::Projections`], if needed.
    pub fn scratch_bytes(&self) -> u64 {
        let scratch = [Binding::Partials, Binding::Projections];
        self.buffers().iter().filter(|(binding, _)| scratch.contains(binding)).map(|(_, bytes)| bytes).sum()
    }

    /// Returns the bytes that the plan reads from memory and writes to memory, tensors only.
    pub fn bytes_moved(&self) -> u64 {
        // A dispatch reads a tensor from memory once: the second time, it is in the cache. In place, one binding is
        // read and written.
        let moved = self.steps.iter().map(|step| {
            let bindings = step.kernel.bindings();
            let tensors = bindings.iter().filter(|(binding, _)| Binding::TENSORS.contains(binding)).count();
            tensors + usize::from(step.kernel.is_in_place())
        });
        // Each group is a part of the tensor.
        let bytes = |step: &Step| {
            self.problem.values_per_channel() as u64 * self.dtype.bytes() * u64::from(step.channels.1)
        };
        moved.zip(&self.steps).map(|(tensors, step)| tensors as u64 * bytes(step)).sum()
    }

    /// Returns the bytes that any pass must move. A forward pass reads x and writes y. A backward pass reads x and dy
    /// and writes dx. If needed, the residual is read and dresidual is written.
    pub fn floor_bytes(&self) -> u64 {
        let tensors = match self.direction {
            Direction::Forward => 2,
            Direction::Backward => 3,
        };
        (tensors + self.extra_tensors) * self.tensor_bytes()
    }

    /// Checks whether a device has everything that the plan needs: limits, and features.
    pub(crate) fn check_limits(&self, profile: &AdapterProfile) -> Result<()> {
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
                    step.grid[0].max(step.grid[1]),
                ),
                (
                    "max_compute_invocations_per_workgroup",
                    limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
                    step.kernel.workgroup_size(),
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
            let found = (profile.subgroup_min_size, profile.subgroup_max_size);
            if let Some(planned) = step.kernel.subgroup_sizes()
                && (found.0 < planned.0 || found.1 > planned.1)
            {
                return Err(Error::SubgroupSizes { planned, found });
            }
            let needed = step.kernel.features();
            if !profile.features.contains(needed) {
                return Err(Error::MissingFeatures {
                    needed: needed - profile.features,
                    stem: step.kernel.stem(),
                });
            }
        }
        Ok(())
    }
}

/// Returns how many elements of a problem can be loaded at once. GPUs load 16 bytes of 16-bit types, too, in planes: in
/// columns, a lane would have the sums of eight channels.
pub(crate) fn width(problem: &Problem, dtype: DType, profile: &AdapterProfile) -> VectorWidth {
    // Planes of two or three elements are not worth a load of four each.
    let long = problem.inner == 1 || problem.inner >= 4;
    if !long || !problem.elements().is_multiple_of(4) {
        return VectorWidth::Scalar;
    }
    let planes_of_eight = problem.inner > 1 && problem.inner.is_multiple_of(8);
    if dtype != DType::F32 && !profile.is_cpu() && planes_of_eight {
        VectorWidth::Eight
    } else {
        VectorWidth::Four
    }
}
