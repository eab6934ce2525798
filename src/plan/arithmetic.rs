//! Small computations for plans.

use crate::kernels::VectorWidth;
use crate::profile::AdapterProfile;
use crate::shape::Problem;

/// Elements of a large tensor on GPUs: dispatches take little of the time of what is larger.
pub(super) const LARGE: usize = 1 << 22;

/// Divides `length` into about `count` parts. Each part but the last is a multiple of `unit`, and none is empty.
/// Returns the number of parts and their length.
pub(super) fn parts(length: usize, count: usize, unit: usize) -> (usize, usize) {
    let chunk = (length / count).max(1).next_multiple_of(unit);
    (length.div_ceil(chunk), chunk)
}

/// Returns the largest power of two up to `number`, at least 1.
pub(super) fn power_of_two(number: u32) -> u32 {
    1 << number.max(1).ilog2()
}

/// Converts a number that [`Problem::new`] and [`parts`] keep below 2³².
pub(super) fn u32_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or_else(|_| unreachable!("{number} does not fit into 32 bits"))
}

/// Returns the fewest rows of columns that are a whole number of loads, and that number.
pub(super) fn row_of_loads(problem: &Problem, width: VectorWidth) -> (usize, usize) {
    let width = width.elements() as usize;
    let rows = (1..width).find(|rows| (rows * problem.channels).is_multiple_of(width)).unwrap_or(width);
    (rows, rows * problem.channels / width)
}

/// Returns the rows of a period of columns. A period is a whole number of loads, as all rows together are. Short
/// periods are combined, if the tensor has rows for at least 64 combined periods. The first choice is a number of
/// periods that divides all rows and keeps nine in ten lanes of a workgroup busy. The second choice keeps every lane
/// busy.
pub(super) fn period_rows(problem: &Problem, width: VectorWidth, lanes: usize) -> usize {
    let (rows, loads) = row_of_loads(problem, width);
    if loads >= 8 * lanes {
        return rows;
    }
    let enough = |several: &usize| several * rows * 64 <= problem.outer;
    let divides = |several: &usize| problem.outer.is_multiple_of(several * rows);
    let busy = |several: &usize, of_ten: usize| {
        let loads = several * loads;
        loads * 10 >= loads.next_multiple_of(lanes) * of_ten
    };
    let candidates = || (1..=lanes).filter(enough);
    let several =
        candidates().find(|n| divides(n) && busy(n, 9)).or_else(|| candidates().find(|n| busy(n, 10)));
    several.unwrap_or(1) * rows
}

/// Returns the largest workgroup size that the limits allow, as a power of two.
pub(super) fn largest_workgroup(profile: &AdapterProfile) -> u32 {
    let limits = &profile.limits;
    let largest =
        limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x).max(1);
    1 << largest.ilog2()
}
