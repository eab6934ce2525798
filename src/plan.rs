//! Plans: which kernels run for a problem on an adapter, and with what geometry.
//!
//! Planning is a pure function: no GPU is touched, and the same input gives the same plan. A plan can be
//! printed.

use crate::kernels::{
    Access, Binding, CountBatch, Finalize, Kernel, Lanes, MOMENTS_BYTES, Moments, Normalize, Params,
    STATISTICS_BYTES, Walk,
};
use crate::{AdapterProfile, BatchNormConfig, Error, Problem, Result};
use std::fmt;

/// Most trips that an invocation may make through its loops. Lavapipe of Mesa 22.3 ends a shader's loops
/// silently after 65,536; a quarter of that leaves room for the blocks' own loop and costs nothing.
const MAX_TRIPS: usize = 1 << 14;

/// How many workgroups keep an adapter busy, and how many values an invocation should at least take, so
/// that starting it is worth while. First figures; every adapter family gets its own row here.
struct Tuning {
    workgroup_size: u32,
    target_workgroups: usize,
    min_trips: usize,
    normalize_trips: usize,
}

impl Tuning {
    fn new(profile: &AdapterProfile) -> Self {
        let largest = profile
            .limits
            .max_compute_invocations_per_workgroup
            .min(profile.limits.max_compute_workgroup_size_x)
            .max(1);
        let largest = 1 << largest.ilog2();
        if profile.is_cpu() {
            // Software drivers run one subgroup as the lanes of a vector register, and the subgroups of a
            // workgroup one after another with all barriers unrolled: one subgroup a workgroup is best.
            let subgroup = profile.subgroup_max_size.next_power_of_two().clamp(4, 16);
            Self {
                workgroup_size: subgroup.min(largest),
                target_workgroups: 64,
                min_trips: 64,
                normalize_trips: 1024,
            }
        } else {
            Self {
                workgroup_size: largest.min(256),
                target_workgroups: 2048,
                min_trips: 8,
                normalize_trips: 8,
            }
        }
    }
}

/// One dispatch of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The kernel.
    pub kernel: Kernel,
    /// Workgroups in each dimension.
    pub grid: [u32; 3],
}

/// How many values each split of a channel takes.
#[derive(Clone, Copy)]
struct Splits {
    splits: usize,
    chunk: usize,
    workgroups: usize,
}

/// What runs for one problem on one adapter. See the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    problem: Problem,
    training: bool,
    in_place: bool,
    steps: Vec<Step>,
    params: Params,
}

impl Plan {
    /// Plans a forward pass.
    ///
    /// `training` chooses the mode, as in [`BatchNorm::train`](crate::BatchNorm::train); `in_place` makes y
    /// overwrite x. A problem without elements only counts the batch.
    ///
    /// # Errors
    /// [`Error::BindingTooLarge`] when the tensor is larger than the device binds at once, [`Error::Limit`]
    /// when a limit is below what the kernels need, and the errors of [`BatchNormConfig::validate`] and
    /// [`BatchNormConfig::problem`].
    pub fn forward(
        problem: &Problem,
        config: &BatchNormConfig,
        training: bool,
        in_place: bool,
        profile: &AdapterProfile,
    ) -> Result<Self> {
        config.validate()?;
        let shape = [problem.outer, problem.channels, problem.inner];
        config.problem(&shape, crate::Layout::ChannelsFirst, training)?;

        let tuning = Tuning::new(profile);
        let walk = if problem.inner == 1 { Walk::Columns } else { Walk::Planes };
        let batch_statistics = config.uses_batch_statistics(training);
        let tracking = training && config.track_running_stats;
        let empty = problem.elements() == 0;
        let max_grid = profile.limits.max_compute_workgroups_per_dimension;
        let momentum = config.momentum.unwrap_or(0.0);
        let mut params = Params {
            channels: u32_of(problem.channels),
            inner: u32_of(problem.inner),
            values: u32_of(problem.values_per_channel()),
            eps: config.eps as f32,
            momentum: momentum as f32,
            retain: (1.0 - momentum) as f32,
            cumulative_average: u32::from(config.momentum.is_none()),
            skip_non_finite: u32::from(config.skip_non_finite),
            ..Params::default()
        };

        let mut steps = Vec::new();
        let mut step = |kernel, workgroups| {
            steps.push(Step { kernel, grid: grid(workgroups, max_grid) });
        };
        if tracking {
            step(Kernel::CountBatch(CountBatch), 1);
        }
        if batch_statistics && !empty {
            let (moments, splits) = plan_moments(problem, walk, &tuning, profile);
            params.moments_splits = u32_of(splits.splits);
            params.moments_chunk = u32_of(splits.chunk);
            step(Kernel::Moments(moments), splits.workgroups);
            let finalize = plan_finalize(splits.splits, tracking, &tuning);
            let workgroups = problem.channels.div_ceil(finalize.channels_per_workgroup as usize);
            step(Kernel::Finalize(finalize), workgroups);
        }
        if !empty {
            let workgroup_size = tuning.workgroup_size;
            let splits = split(problem, walk, workgroup_size as usize, |values, lanes| {
                values.div_ceil(lanes * tuning.normalize_trips)
            });
            params.normalize_splits = u32_of(splits.splits);
            params.normalize_chunk = u32_of(splits.chunk);
            let normalize = Normalize {
                walk,
                in_place,
                running: !batch_statistics,
                affine: config.affine,
                workgroup_size,
            };
            step(Kernel::Normalize(normalize), splits.workgroups);
        }
        let plan = Self { problem: *problem, training, in_place, steps, params };
        plan.check_limits(profile)?;
        Ok(plan)
    }

    /// The problem that was planned.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Whether the plan is for training mode.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// Whether y overwrites x.
    pub fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// The dispatches, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The uniform, but for the offsets of the tensors.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The buffers to give to [`PreparedPlan::bind`](crate::PreparedPlan::bind), with the bytes each must
    /// hold. All need [`wgpu::BufferUsages::STORAGE`].
    pub fn buffers(&self) -> Vec<(Binding, u64)> {
        let mut bindings: Vec<Binding> = self
            .steps
            .iter()
            .flat_map(|step| step.kernel.bindings())
            .filter(|(_, access)| *access != Access::Uniform)
            .map(|(binding, _)| binding)
            // In place, x is y.
            .filter(|binding| !(self.in_place && *binding == Binding::X))
            .collect();
        bindings.sort_unstable();
        bindings.dedup();
        bindings.into_iter().map(|binding| (binding, self.bytes_of(binding))).collect()
    }

    /// Bytes that `binding` must hold in this plan.
    pub fn bytes_of(&self, binding: Binding) -> u64 {
        let channels = self.problem.channels as u64;
        match binding {
            Binding::Params => size_of::<Params>() as u64,
            Binding::X | Binding::Y => self.problem.elements() as u64 * 4,
            Binding::Statistics => channels * STATISTICS_BYTES,
            Binding::Weight | Binding::Bias | Binding::RunningMean | Binding::RunningVar => channels * 4,
            Binding::NumBatchesTracked => 8,
            Binding::Partials => channels * u64::from(self.params.moments_splits) * MOMENTS_BYTES,
        }
    }

    /// Bytes of scratch, the size of [`Binding::Partials`]: 0 where none is needed.
    pub fn scratch_bytes(&self) -> u64 {
        self.bytes_of(Binding::Partials)
    }

    /// Bytes that the plan reads from and writes to memory, tensors only.
    pub fn bytes_moved(&self) -> u64 {
        let tensor = self.bytes_of(Binding::X);
        let passes = self.steps.iter().map(|step| match step.kernel {
            Kernel::Moments(_) => 1,
            Kernel::Normalize(_) => 2,
            Kernel::CountBatch(_) | Kernel::Finalize(_) => 0,
        });
        tensor * passes.sum::<u64>()
    }

    /// Bytes that any forward pass must move: x read once, y written once.
    pub fn floor_bytes(&self) -> u64 {
        2 * self.bytes_of(Binding::X)
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
            let storage = step.kernel.bindings().iter().filter(|(_, a)| *a != Access::Uniform).count();
            at_least(
                "max_storage_buffers_per_shader_stage",
                limits.max_storage_buffers_per_shader_stage,
                storage,
            )?;
            at_least("max_bindings_per_bind_group", limits.max_bindings_per_bind_group, storage + 1)?;
            let rows = step.grid[1] as usize;
            at_least(
                "max_compute_workgroups_per_dimension",
                limits.max_compute_workgroups_per_dimension,
                rows,
            )?;
            let memory = step.kernel.workgroup_memory() as usize;
            at_least(
                "max_compute_workgroup_storage_size",
                limits.max_compute_workgroup_storage_size,
                memory,
            )?;
        }
        Ok(())
    }
}

fn at_least(limit: &'static str, available: u32, needed: usize) -> Result<()> {
    if (available as usize) < needed {
        return Err(Error::Limit { limit, needed: needed as u64, available: u64::from(available) });
    }
    Ok(())
}

/// Numbers that [`Problem::new`] and [`split`] keep below 2³².
fn u32_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or_else(|_| unreachable!("{number} does not fit into 32 bits"))
}

/// Spreads workgroups over two dimensions where one is not enough, with as few surplus ones as possible.
fn grid(workgroups: usize, max: u32) -> [u32; 3] {
    let rows = workgroups.div_ceil(max.max(1) as usize);
    [u32_of(workgroups.div_ceil(rows)), u32_of(rows), 1]
}

/// Divides every channel into splits of about the number that `wanted(values, lanes)` asks for, where
/// `lanes` is how many lanes share a split, but never so few that an invocation exceeds [`MAX_TRIPS`].
fn split(
    problem: &Problem,
    walk: Walk,
    workgroup_size: usize,
    wanted: impl Fn(usize, usize) -> usize,
) -> Splits {
    let values = problem.values_per_channel();
    let lanes = match walk {
        Walk::Planes => workgroup_size,
        Walk::Columns => 1,
    };
    let fewest = values.div_ceil(lanes * MAX_TRIPS);
    let splits = wanted(values, lanes).max(fewest).clamp(1, values);
    match walk {
        Walk::Planes => {
            // Whole rounds of the workgroup, so that all lanes but the last split's have equal work.
            let chunk = values.div_ceil(splits).next_multiple_of(lanes);
            let splits = values.div_ceil(chunk);
            Splits { splits, chunk, workgroups: splits * problem.channels }
        }
        Walk::Columns => {
            let workgroups = (splits * problem.channels).div_ceil(workgroup_size);
            Splits { splits, chunk: values.div_ceil(splits), workgroups }
        }
    }
}

fn plan_moments(
    problem: &Problem,
    walk: Walk,
    tuning: &Tuning,
    profile: &AdapterProfile,
) -> (Moments, Splits) {
    let subgroup = profile.subgroup_max_size;
    let workgroup_size = match walk {
        // No more lanes than a channel has values, but whole subgroups.
        Walk::Planes => {
            let values = u32_of(problem.values_per_channel().next_power_of_two().min(1 << 16));
            tuning.workgroup_size.min(values.max(subgroup).next_power_of_two())
        }
        Walk::Columns => tuning.workgroup_size,
    };
    let lanes = match walk {
        Walk::Columns => Lanes::Alone,
        Walk::Planes
            if profile.has_subgroups()
                && subgroup.is_power_of_two()
                && profile.subgroup_min_size.is_power_of_two()
                && workgroup_size.is_multiple_of(subgroup) =>
        {
            Lanes::Subgroup { min_size: profile.subgroup_min_size, max_size: subgroup }
        }
        Walk::Planes => Lanes::Tree,
    };
    let splits = split(problem, walk, workgroup_size as usize, |values, lanes| {
        let target = tuning.target_workgroups * workgroup_size as usize / lanes;
        let enough = target.div_ceil(problem.channels);
        enough.min(values / (lanes * tuning.min_trips))
    });
    (Moments { walk, lanes, workgroup_size }, splits)
}

fn plan_finalize(splits: usize, tracking: bool, tuning: &Tuning) -> Finalize {
    // Eight splits a lane before a second lane is worth its merge.
    let lanes = (splits / 8).next_power_of_two().clamp(1, tuning.workgroup_size as usize);
    let channels_per_workgroup = tuning.workgroup_size / u32_of(lanes);
    Finalize { tracking, channels_per_workgroup, workgroup_size: tuning.workgroup_size }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.training { "training" } else { "eval" };
        let in_place = if self.in_place { ", in place" } else { "" };
        writeln!(
            f,
            "forward, {mode}{in_place} on {}: {} bytes moved (floor {}), {} bytes of scratch",
            self.problem,
            self.bytes_moved(),
            self.floor_bytes(),
            self.scratch_bytes()
        )?;
        for step in &self.steps {
            let splits = match step.kernel {
                Kernel::Moments(_) => format!(", {} splits", self.params.moments_splits),
                Kernel::Normalize(_) => format!(", {} splits", self.params.normalize_splits),
                _ => String::new(),
            };
            let [x, y, _] = step.grid;
            let (stem, size, variant) =
                (step.kernel.stem(), step.kernel.workgroup_size(), step.kernel.variant());
            writeln!(f, "  {stem:<11} {x} × {y} workgroups of {size}{splits}{variant}")?;
        }
        Ok(())
    }
}
