//! Lanes with several columns, and groups of channels.

use super::{Recorded, cases, check_all, check_some};
use crate::support::{self, changed};
use wgpu_batchnorm::Tuning;
use wgpu_batchnorm::internals::tests_are_exhaustive;
use wgpu_batchnorm::verify::Case;

/// Returns the cases that have columns: the plain ones, and the others.
fn columns() -> (Vec<Case>, Vec<Case>) {
    cases(|Case { config, shape, training, .. }| {
        let problem = config.problem(shape, config.layout, (*training).into()).unwrap();
        problem.inner() == 1 && (8..=50_000).contains(&problem.elements())
    })
}

/// Heuristics give a lane four columns at most, and tunings eight. LLVM takes ten seconds for a kernel with eight, so
/// that these are for those who ask for all cases.
#[test]
fn many_columns_a_lane() {
    let many = |tuning| {
        let columns = if tests_are_exhaustive() { 8 } else { 4 };
        changed(tuning, |tuning: &mut Tuning| (tuning.tile_loads, tuning.columns_per_lane) = (0, columns))
    };
    let (plain, fused) = columns();
    // A lane has more than one column only if there are many channels.
    let wide = |case: &&Case| case.config.num_features >= 100;
    let cases = plain.iter().step_by(6).chain(fused.iter().filter(wide));
    check_all(&Recorded::new(support::gpu()).tuned(many), cases);
}

#[test]
fn three_columns_a_lane() {
    let some = |tuning| {
        changed(tuning, |tuning: &mut Tuning| {
            (tuning.tile_loads, tuning.columns_per_lane) = (0, 3);
            (tuning.one_dispatch, tuning.splits) = (false, 5);
        })
    };
    let (plain, fused) = columns();
    let cases = plain.iter().step_by(2).chain(fused.iter().step_by(3));
    check_all(&Recorded::new(support::gpu()).tuned(some).in_place().offset(4), cases);
}

#[test]
fn groups_of_channels() {
    let grouped = |tuning| {
        changed(tuning, |tuning: &mut Tuning| {
            (tuning.tile_loads, tuning.one_dispatch, tuning.groups) = (0, false, 3);
        })
    };
    check_some(&Recorded::new(support::gpu()).tuned(grouped), 20_000, 2, 9);
    check_some(&Recorded::new(support::gpu()).gpu_like().tuned(grouped).in_place(), 20_000, 5, 20);
}
