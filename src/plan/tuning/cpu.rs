//! Heuristics for software drivers, which run on a CPU.

use super::Tuning;
use crate::kernels::VectorWidth;
use crate::plan::arithmetic::{largest_workgroup, period_rows, row_of_loads};
use crate::plan::tile::{split_into_tiles, tile_width};
use crate::profile::AdapterProfile;
use crate::shape::Problem;

/// Workgroups that keep a CPU busy without splits, and the workgroups that share the values if fewer would run.
const WORKGROUPS: (usize, usize) = (16, 64);

/// Columns per lane: for rows shorter than a page of memory, and for other rows. CPUs prefetch along a line of memory,
/// but hardly from row to row. Two columns are up to a third faster than one; four are if every row is in another page, or
/// if a row has fewer loads than a workgroup has lanes: those of several rows are then one line. More columns keep more
/// sums, which do not fit into registers.
const COLUMNS_PER_LANE: (usize, usize) = (2, 4);

/// Bytes of a page of memory.
const PAGE: usize = 4096;

pub(super) fn tuning(problem: &Problem, width: VectorWidth, profile: &AdapterProfile) -> Tuning {
    // Software drivers run a subgroup as the lanes of a vector register. They run the subgroups of a workgroup one after
    // another, with all barriers unrolled. One subgroup a workgroup is best.
    let workgroup_size =
        profile.subgroup_max_size.next_power_of_two().clamp(4, 16).min(largest_workgroup(profile));
    let (lanes, elements) = (workgroup_size as usize, width.elements() as usize);
    let columns = problem.inner == 1;
    // Workgroups, and loads per lane, without splits.
    let rows = period_rows(problem, width, lanes);
    let (period, periods) = (problem.channels * rows / elements, problem.outer.div_ceil(rows));
    let is_between = row_of_loads(problem, width).1 >= lanes && problem.channels * 4 < PAGE;
    let most = if is_between { COLUMNS_PER_LANE.0 } else { COLUMNS_PER_LANE.1 };
    let columns_per_lane = if columns { period.div_ceil(lanes).min(most) } else { 1 };
    let (workgroups, loads) = if columns {
        (period.div_ceil(lanes * columns_per_lane), periods)
    } else {
        (problem.channels, problem.values_per_channel().div_ceil(lanes * elements))
    };
    let (enough, target) = WORKGROUPS;
    // One more dispatch takes as long as some hundred loads.
    let whole = workgroups >= enough || loads * columns_per_lane <= 512;
    let splits = if whole { 1 } else { target.div_ceil(workgroups).min(loads / 16).max(1) };
    Tuning {
        workgroup_size,
        splits: u32::try_from(splits).unwrap_or(u32::MAX),
        one_dispatch: true,
        groups: 1,
        tile_loads: tile_loads(problem, profile),
        loads_per_lane_planes: 512,
        loads_per_lane_columns: 256,
        columns_per_lane: columns_per_lane as u32,
        lanes_across: workgroup_size,
    }
}

/// Returns how many loads of each tensor a lane should keep. The stack holds them. Such a long kernel takes a second to
/// compile, which does not pay for small tensors. Lanes that hold columns each go from row to row, which takes longer
/// than reading the columns twice.
fn tile_loads(problem: &Problem, profile: &AdapterProfile) -> u32 {
    let tiles = split_into_tiles(problem, tile_width(problem, VectorWidth::Four), profile);
    let worth = problem.inner > 1 && tiles.workgroups >= 4 && problem.elements() >= 1 << 18;
    // FXC takes 6 s to compile 52 loads of four, and 0.5 s to compile 16.
    let most = if profile.is_fxc() { 16 } else { 64 };
    if worth { most } else { 0 }
}
