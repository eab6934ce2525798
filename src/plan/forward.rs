//! Forward plans.

use super::grid::{GridPlanner, Reduction};
use super::tile::held_width;
use super::{
    ForwardOptions, Pass, Plan, Work, is_held, statistics, width, with_fallback, without_scalar_packed_tile,
};
use crate::config::BatchNormConfig;
use crate::error::Result;
use crate::kernels::{
    CountBatch, Finalize, ForwardOneDispatch, ForwardResident, Kernel, Moments, MomentsResult, Normalize,
    Output, RunningUpdate, Statistics, Storage, VectorWidth,
};
use crate::plan::Tuning;
use crate::profile::AdapterProfile;
use crate::shape::Problem;

impl Plan {
    /// Plans a forward pass.
    ///
    /// `training` chooses the mode, as in [`BatchNorm::train`](crate::BatchNorm::train). A problem without elements
    /// only counts the batch.
    ///
    /// # Errors
    /// [`Error::BindingTooLarge`](crate::Error::BindingTooLarge) when the tensor is larger than the device
    /// binds at once, [`Error::Limit`](crate::Error::Limit) when a limit is below what the kernels need, and
    /// the errors of [`BatchNormConfig::validate`] and [`BatchNormConfig::problem`].
    pub fn forward(
        problem: &Problem,
        config: &BatchNormConfig,
        training: bool,
        options: &ForwardOptions,
        profile: &AdapterProfile,
    ) -> Result<Self> {
        let tuning = Tuning::new(problem, width(problem), profile);
        Self::forward_tuned(problem, config, training, options, profile, tuning)
    }

    /// As [`forward`](Self::forward), with a tuning that was found by measuring.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_tuned(
        problem: &Problem,
        config: &BatchNormConfig,
        training: bool,
        options: &ForwardOptions,
        profile: &AdapterProfile,
        tuning: Tuning,
    ) -> Result<Self> {
        let tuning = without_scalar_packed_tile(tuning, problem, options.dtype);
        let mut width = width(problem);
        if config.uses_batch_statistics(training) && is_held(problem, held_width(problem), profile, tuning, 1)
        {
            width = held_width(problem);
        }
        with_fallback(problem, profile, width, tuning, |geometry, width| {
            Self::forward_by(geometry, width, problem, config, training, options, profile)
        })
    }

    fn forward_by(
        geometry: &GridPlanner<'_>,
        width: VectorWidth,
        problem: &Problem,
        config: &BatchNormConfig,
        training: bool,
        options: &ForwardOptions,
        profile: &AdapterProfile,
    ) -> Result<Self> {
        let ForwardOptions { in_place, residual, dtype } = *options;
        let mut plan = Self::new(Pass::Forward, width, problem, config, training, (in_place, dtype))?;
        plan.extra_tensors = residual.into();
        let statistics = statistics(config, training);
        let storage = Storage::new(dtype, width, profile);
        let activation = config.activation.kind();
        let output = Output { storage, in_place, affine: config.affine, activation, residual };
        let running = match (training && config.track_running_stats, config.momentum) {
            (false, _) => RunningUpdate::Off,
            (true, Some(_)) => RunningUpdate::Fixed,
            (true, None) => RunningUpdate::Cumulative,
        };
        let empty = problem.elements() == 0;
        if running == RunningUpdate::Cumulative || (running == RunningUpdate::Fixed && empty) {
            plan.stages.push((Kernel::CountBatch(CountBatch), Work::Once));
        }
        let mut normalized = empty;
        let held = if statistics == Statistics::Batch && !empty { geometry.held(1) } else { None };
        let held = held.map(|(tile, workgroups)| {
            (Kernel::ForwardResident(ForwardResident { tile, output, running }), workgroups)
        });
        if let Some((all, workgroups)) = held.filter(|(all, _)| geometry.binds(all)) {
            plan.push_resident(all, workgroups);
            normalized = true;
        } else if statistics == Statistics::Batch && !empty {
            let reduction = geometry.reduction();
            let Reduction { lanes, workgroup_size, division } = reduction;
            let traversal = division.traversal;
            let all = Kernel::ForwardOneDispatch(ForwardOneDispatch {
                traversal,
                lanes,
                output,
                running,
                workgroup_size,
            });
            if reduction.can_be_one_dispatch() && geometry.one_dispatch() && geometry.binds(&all) {
                plan.push_reduction(division, all);
                normalized = true;
            } else if reduction.is_unsplit() {
                let result = MomentsResult::Statistics(running);
                let moments = Moments { traversal, lanes, storage, result, workgroup_size };
                plan.push_reduction(division, Kernel::Moments(moments));
            } else {
                let result = MomentsResult::Partials;
                let moments = Moments { traversal, lanes, storage, result, workgroup_size };
                plan.push_reduction(division, Kernel::Moments(moments));
                let channels_per_workgroup = geometry.channels_per_workgroup(plan.params.reduce.count);
                let workgroup_size = geometry.workgroup_size;
                let finalize = Finalize { running, channels_per_workgroup, workgroup_size };
                plan.stages.push((Kernel::Finalize(finalize), Work::Channels(channels_per_workgroup)));
            }
        }
        if !normalized {
            let workgroup_size = geometry.workgroup_size;
            let division = geometry.map();
            let normalize = Normalize { traversal: division.traversal, statistics, output, workgroup_size };
            plan.push_elementwise(division, Kernel::Normalize(normalize));
        }
        plan.lay_out(geometry);
        plan.check_limits(profile)?;
        Ok(plan)
    }
}
