//! Backward plans.

use super::grid::{GridPlanner, Reduction};
use super::tile::tile_width;
use super::{BackwardOptions, Direction, Plan, PlanInput, Work, width};
use crate::config::BatchNormConfig;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernels::{
    ActivationKind, BackwardFinalize, BackwardInput, BackwardOneDispatch, BackwardResident, BackwardSums,
    ChannelGradients, InputGradient, Kernel, Lanes, PreActivation, Statistics, Storage, Traversal,
    VectorWidth,
};
use crate::mode::Mode;
use crate::shape::Problem;

/// Most values per channel for which dx is computed with exact products. Batch statistics remove two of the n
/// dimensions of dy, so a share of (n − 2) / n of a random dy remains. With more values, rounding a product is as
/// harmless as any other rounding.
const FEW_VALUES: usize = 32;

impl Plan {
    /// Plans a backward pass after a forward pass in the same mode.
    ///
    /// Without elements, dweight and dbias are zero, or unchanged if accumulated.
    ///
    /// # Errors
    /// Returns the errors of [`forward`](Self::forward).
    pub fn backward(input: &PlanInput<'_>, options: &BackwardOptions) -> Result<Self> {
        input.check()?;
        let PlanInput { problem, config, mode, .. } = *input;
        let mut width = backward_width(input, options.dtype);
        let tuning = input.tuning_for(width, options.dtype);
        if input.uses_batch_statistics() && options.mask.input {
            let tile_width = if one_by_one(&problem, config, mode) {
                VectorWidth::Scalar
            } else {
                tile_width(&problem, width)
            };
            if input.is_resident(tile_width, tuning, resident_tensors(config, options)) {
                width = tile_width;
            }
        }
        input.plan_with_fallback(width, tuning, |grid| Self::backward_by(grid, input, options))
    }

    fn backward_by(grid: &GridPlanner<'_>, input: &PlanInput<'_>, options: &BackwardOptions) -> Result<Self> {
        let PlanInput { problem, config, mode, profile, .. } = *input;
        let BackwardOptions { mask, in_place, accumulate, residual, dtype } = *options;
        let mut plan = Self::new(Direction::Backward, input, grid.width, in_place, dtype);
        plan.params.accumulate = accumulate.into();
        let statistics = input.statistics();
        let storage = Storage::new(dtype, grid.width, profile);
        let activation = config.activation.kind();
        let (weight, bias) = (config.weight, config.bias);
        let mut pre_activation = PreActivation { storage, weight, bias, activation, residual };
        // Without an activation, the gradients depend neither on the bias nor on the residual.
        pre_activation.bias &= pre_activation.is_activated();
        pre_activation.residual &= pre_activation.is_activated();
        let dresidual = mask.residual && residual;
        plan.extra_tensors = u64::from(pre_activation.residual) + u64::from(dresidual);
        let gradient = InputGradient {
            pre_activation,
            in_place: in_place && mask.input,
            dx: mask.input,
            dresidual,
            exact_products: exact_products(&problem, config, mode),
        };
        let empty = problem.elements() == 0;
        let (dweight, dbias) = (mask.weight && weight, mask.bias && bias);
        // No gradient flows through running statistics, so dx needs no sums then.
        let projection = mask.input && statistics == Statistics::Batch && !empty;
        let gradients = ChannelGradients { weight: dweight, bias: dbias, projection };

        let mut has_dx = empty || !(mask.input || dresidual);
        let mut concluded = !(dweight || dbias || projection);
        let needs_statistics = dweight || projection || pre_activation.is_activated();
        let of_sums = if needs_statistics && !empty { statistics } else { Statistics::None };
        let mut merge = None;
        let input = |gradient: InputGradient, merge: Option<(Lanes, ChannelGradients)>, has_sums| {
            let Reduction { workgroup_size, division, .. } = grid.elementwise(merge.map(|(lanes, _)| lanes));
            // dresidual depends on statistics only through an activation.
            let needs_statistics = gradient.dx || pre_activation.is_activated();
            let kernel = BackwardInput {
                traversal: division.traversal,
                statistics: if needs_statistics { statistics } else { Statistics::None },
                merge,
                gradient,
                vectors_at_once: grid.vectors_at_once(),
                reversed: has_sums && grid.reverses(),
                workgroup_size,
            };
            (division, Kernel::BackwardInput(kernel))
        };
        let resident = if projection { grid.tile(resident_tensors(config, options)) } else { None };
        let resident = resident.map(|(tile, division)| {
            (Kernel::BackwardResident(BackwardResident { tile, gradient, dweight, dbias }), division)
        });
        if let Some((all, division)) = resident.filter(|(all, _)| grid.binds(all)) {
            plan.push_resident(all, division);
            (concluded, has_dx) = (true, true);
        } else if !concluded && !empty {
            let reduction = grid.reduction();
            let Reduction { lanes, workgroup_size, division } = reduction;
            let traversal = division.traversal;
            let all = BackwardOneDispatch { traversal, lanes, gradient, dweight, dbias, workgroup_size };
            let all = Kernel::BackwardOneDispatch(all);
            let one_dispatch = reduction.can_be_one_dispatch() && grid.one_dispatch();
            if projection && one_dispatch && grid.binds(&all) {
                plan.push_reduction(division, all);
                (concluded, has_dx) = (true, true);
            } else {
                let sums = |beside, result| {
                    let statistics = of_sums;
                    Kernel::BackwardSums(BackwardSums {
                        traversal,
                        lanes,
                        statistics,
                        pre_activation,
                        beside,
                        result,
                        workgroup_size,
                    })
                };
                // Where dx needs no sums, the same dispatch writes it.
                let may_be_beside = !(projection || has_dx || of_sums == Statistics::None)
                    && traversal != Traversal::PlanesMasked;
                let beside = Some(gradient).filter(|_| may_be_beside);
                let result = Some(gradients).filter(|_| reduction.is_unsplit());
                let kinds = [(beside, result), (beside, None), (None, result)];
                let found = kinds.into_iter().find(|(beside, result)| grid.binds(&sums(*beside, *result)));
                let (beside, result) = found.unwrap_or((None, None));
                plan.push_reduction(division, sums(beside, result));
                (concluded, has_dx) = (result.is_some(), has_dx || beside.is_some());
                if !concluded && !has_dx {
                    let merging = grid.merge(&reduction).map(|lanes| (lanes, gradients));
                    merge = merging.filter(|_| grid.binds(&input(gradient, merging, true).1));
                    concluded = merge.is_some();
                }
            }
        }
        if !concluded {
            let channels_per_workgroup = grid.channels_per_workgroup(plan.params.reduction.count);
            let workgroup_size = grid.workgroup_size;
            let finalize =
                BackwardFinalize { statistics: of_sums, gradients, channels_per_workgroup, workgroup_size };
            plan.stages.push((Kernel::BackwardFinalize(finalize), Work::Channels(channels_per_workgroup)));
        }
        if !has_dx {
            let has_sums = !plan.stages.is_empty();
            let both = input(gradient, merge, has_sums);
            if gradient.dx && gradient.dresidual && !grid.binds(&both.1) {
                // Two dispatches bind fewer buffers each. The one for dresidual comes first, since dx may overwrite dy.
                let dresidual =
                    InputGradient { in_place: false, dx: false, exact_products: false, ..gradient };
                let dx = InputGradient { dresidual: false, ..gradient };
                for one in [dresidual, dx] {
                    let (division, kernel) = input(one, None, has_sums);
                    plan.push_elementwise(division, kernel);
                }
            } else {
                plan.push_elementwise(both.0, both.1);
            }
        }
        plan.lay_out(grid);
        plan.check_limits(profile)?;
        Ok(plan)
    }
}

/// Returns how many tensors a resident pass keeps in registers: x, dy, and the residual if the gradient depends on it.
fn resident_tensors(config: &BatchNormConfig, options: &BackwardOptions) -> u32 {
    let has_residual = options.residual && config.activation.kind() != ActivationKind::Identity;
    2 + u32::from(has_residual)
}

/// Returns how many elements the backward pass loads at once.
pub(crate) fn backward_width(input: &PlanInput<'_>, dtype: DType) -> VectorWidth {
    match one_by_one(&input.problem, input.config, input.mode) {
        true => VectorWidth::Scalar,
        false => width(&input.problem, dtype, input.profile),
    }
}

/// Checks whether dx needs scalar loads: in planes, exact products are computed one by one for each channel.
fn one_by_one(problem: &Problem, config: &BatchNormConfig, mode: Mode) -> bool {
    exact_products(problem, config, mode) && problem.inner > 1
}

/// Checks whether dx needs exact products.
fn exact_products(problem: &Problem, config: &BatchNormConfig, mode: Mode) -> bool {
    config.uses_batch_statistics(mode) && problem.values_per_channel() <= FEW_VALUES
}
