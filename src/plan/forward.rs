//! Forward plans.

use super::grid::{GridPlanner, Reduction};
use super::tile::tile_width;
use super::{Direction, ForwardOptions, Plan, PlanInput, Work, width};
use crate::error::Result;
use crate::kernels::{
    CountBatch, Finalize, ForwardOneDispatch, ForwardResident, Kernel, Lanes, Moments, MomentsResult,
    Normalize, Output, RunningUpdate, Statistics, Storage,
};

impl Plan {
    /// Plans a forward pass. Without elements, the pass only counts the batch.
    ///
    /// # Errors
    /// [`Error::BindingTooLarge`](crate::Error::BindingTooLarge) if a buffer is larger than the device binds,
    /// [`Error::Limit`](crate::Error::Limit) if a limit is below what the kernels need, and the errors of
    /// [`BatchNormConfig::validate`](crate::BatchNormConfig::validate) and
    /// [`BatchNormConfig::problem`](crate::BatchNormConfig::problem).
    pub fn forward(input: &PlanInput<'_>, options: &ForwardOptions) -> Result<Self> {
        input.check()?;
        let mut width = width(&input.problem, options.dtype, input.profile);
        let tuning = input.tuning_for(width, options.dtype);
        let tile_width = tile_width(&input.problem, width);
        if input.uses_batch_statistics() && input.is_resident(tile_width, tuning, 1) {
            width = tile_width;
        }
        input.plan_with_fallback(width, tuning, |grid| Self::forward_by(grid, input, options))
    }

    fn forward_by(grid: &GridPlanner<'_>, input: &PlanInput<'_>, options: &ForwardOptions) -> Result<Self> {
        let PlanInput { problem, config, mode, profile, .. } = *input;
        let ForwardOptions { in_place, residual, dtype } = *options;
        let mut plan = Self::new(Direction::Forward, input, grid.width, in_place, dtype);
        plan.extra_tensors = residual.into();
        let statistics = input.statistics();
        let storage = Storage::new(dtype, grid.width, profile);
        let activation = config.activation.kind();
        let (weight, bias) = (config.weight, config.bias);
        let output = Output { storage, in_place, weight, bias, activation, residual };
        let running = match (mode.is_training() && config.track_running_stats, config.momentum) {
            (false, _) => RunningUpdate::Off,
            (true, Some(_)) => RunningUpdate::Fixed,
            (true, None) => RunningUpdate::Cumulative,
        };
        let empty = problem.elements() == 0;
        if running == RunningUpdate::Cumulative || (running == RunningUpdate::Fixed && empty) {
            plan.stages.push((Kernel::CountBatch(CountBatch), Work::Once));
        }
        let mut normalized = empty;
        let mut merge = None;
        // Batch statistics come from a reduction.
        let reversed = statistics == Statistics::Batch && grid.reverses();
        let normalize = |merge: Option<(Lanes, RunningUpdate)>| {
            let Reduction { workgroup_size, division, .. } = grid.elementwise(merge.map(|(lanes, _)| lanes));
            let (traversal, vectors_at_once) = (division.traversal, grid.vectors_at_once());
            let kernel =
                Normalize { traversal, statistics, merge, output, vectors_at_once, reversed, workgroup_size };
            (division, Kernel::Normalize(kernel))
        };
        let resident = if statistics == Statistics::Batch && !empty { grid.tile(1) } else { None };
        let resident = resident.map(|(tile, division)| {
            (Kernel::ForwardResident(ForwardResident { tile, output, running }), division)
        });
        if let Some((all, division)) = resident.filter(|(all, _)| grid.binds(all)) {
            plan.push_resident(all, division);
            normalized = true;
        } else if statistics == Statistics::Batch && !empty {
            let reduction = grid.reduction();
            let Reduction { lanes, workgroup_size, division } = reduction;
            let traversal = division.traversal;
            let all = Kernel::ForwardOneDispatch(ForwardOneDispatch {
                traversal,
                lanes,
                output,
                running,
                workgroup_size,
            });
            let moments =
                |result| Kernel::Moments(Moments { traversal, lanes, storage, result, workgroup_size });
            if reduction.can_be_one_dispatch() && grid.one_dispatch() && grid.binds(&all) {
                plan.push_reduction(division, all);
                normalized = true;
            } else if reduction.is_unsplit() {
                plan.push_reduction(division, moments(MomentsResult::Statistics(running)));
            } else {
                plan.push_reduction(division, moments(MomentsResult::Partials));
                let merging = grid.merge(&reduction).map(|lanes| (lanes, running));
                merge = merging.filter(|_| grid.binds(&normalize(merging).1));
                if merge.is_none() {
                    let channels_per_workgroup = grid.channels_per_workgroup(plan.params.reduction.count);
                    let workgroup_size = grid.workgroup_size;
                    let finalize = Finalize { running, channels_per_workgroup, workgroup_size };
                    plan.stages.push((Kernel::Finalize(finalize), Work::Channels(channels_per_workgroup)));
                }
            }
        }
        if !normalized {
            let (division, kernel) = normalize(merge);
            plan.push_elementwise(division, kernel);
        }
        plan.lay_out(grid);
        plan.check_limits(profile)?;
        Ok(plan)
    }
}
