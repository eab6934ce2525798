//! Forward plans.

use super::geometry::{Geometry, Reduction, held_width};
use super::{Pass, Plan, Work, is_held, statistics, width, with_fallback};
use crate::kernels::{
    CountBatch, Finalize, ForwardChannel, ForwardHeld, Kernel, Moments, MomentsResult, Normalize, Statistics,
    Tracking, Width,
};
use crate::{AdapterProfile, BatchNormConfig, Problem, Result, Tuning};

impl Plan {
    /// Plans a forward pass.
    ///
    /// `training` chooses the mode, as in [`BatchNorm::train`](crate::BatchNorm::train); `in_place` makes y
    /// overwrite x. A problem without elements only counts the batch.
    ///
    /// # Errors
    /// [`Error::BindingTooLarge`](crate::Error::BindingTooLarge) when the tensor is larger than the device
    /// binds at once, [`Error::Limit`](crate::Error::Limit) when a limit is below what the kernels need, and
    /// the errors of [`BatchNormConfig::validate`] and [`BatchNormConfig::problem`].
    pub fn forward(
        problem: &Problem,
        config: &BatchNormConfig,
        training: bool,
        in_place: bool,
        profile: &AdapterProfile,
    ) -> Result<Self> {
        let tuning = Tuning::new(problem, width(problem), profile);
        Self::forward_tuned(problem, config, training, in_place, profile, tuning)
    }

    /// As [`forward`](Self::forward), with a tuning that was found by measuring.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_tuned(
        problem: &Problem,
        config: &BatchNormConfig,
        training: bool,
        in_place: bool,
        profile: &AdapterProfile,
        tuning: Tuning,
    ) -> Result<Self> {
        let mut width = width(problem);
        if config.uses_batch_statistics(training) && is_held(problem, held_width(problem), profile, tuning, 1)
        {
            width = held_width(problem);
        }
        with_fallback(problem, profile, width, tuning, |geometry, width| {
            Self::forward_by(geometry, width, problem, config, training, in_place, profile)
        })
    }

    fn forward_by(
        geometry: &Geometry<'_>,
        width: Width,
        problem: &Problem,
        config: &BatchNormConfig,
        training: bool,
        in_place: bool,
        profile: &AdapterProfile,
    ) -> Result<Self> {
        let mut plan = Self::new(Pass::Forward, width, problem, config, training, in_place)?;
        let (statistics, affine) = (statistics(config, training), config.affine);
        let tracking = match (training && config.track_running_stats, config.momentum) {
            (false, _) => Tracking::Off,
            (true, Some(_)) => Tracking::Fixed,
            (true, None) => Tracking::Cumulative,
        };
        let empty = problem.elements() == 0;
        if tracking == Tracking::Cumulative || (tracking == Tracking::Fixed && empty) {
            plan.stages.push((Kernel::CountBatch(CountBatch), Work::Once));
        }
        let mut normalized = empty;
        let held = if statistics == Statistics::Batch && !empty { geometry.held(1) } else { None };
        if let Some((held, workgroups)) = held {
            let all = ForwardHeld { held, in_place, affine, tracking };
            plan.hold(Kernel::ForwardHeld(all), workgroups);
            normalized = true;
        } else if statistics == Statistics::Batch && !empty {
            let reduction = geometry.reduction();
            let Reduction { lanes, workgroup_size, division } = reduction;
            let walk = division.walk;
            if reduction.can_be_one_dispatch() && geometry.one_dispatch() {
                let all = ForwardChannel { walk, lanes, in_place, affine, tracking, workgroup_size };
                plan.reduce(division, Kernel::ForwardChannel(all));
                normalized = true;
            } else if reduction.is_whole() {
                let result = MomentsResult::Statistics(tracking);
                let moments = Moments { walk, lanes, result, workgroup_size };
                plan.reduce(division, Kernel::Moments(moments));
            } else {
                let moments = Moments { walk, lanes, result: MomentsResult::Partials, workgroup_size };
                plan.reduce(division, Kernel::Moments(moments));
                let channels_per_workgroup = geometry.channels_per_workgroup(plan.params.reduce.count);
                let workgroup_size = geometry.workgroup_size;
                let finalize = Finalize { tracking, channels_per_workgroup, workgroup_size };
                plan.stages.push((Kernel::Finalize(finalize), Work::Channels(channels_per_workgroup)));
            }
        }
        if !normalized {
            let workgroup_size = geometry.workgroup_size;
            let division = geometry.map();
            let normalize = Normalize { walk: division.walk, in_place, statistics, affine, workgroup_size };
            plan.map(division, Kernel::Normalize(normalize));
        }
        plan.lay_out(geometry);
        plan.check_limits(profile)?;
        Ok(plan)
    }
}
