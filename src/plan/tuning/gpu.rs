//! Heuristics for GPUs.

use super::Tuning;
use crate::kernels::VectorWidth;
use crate::plan::arithmetic::{LARGE, largest_workgroup, row_of_loads};
use crate::plan::tile::{split_into_tiles, tile_width};
use crate::profile::{AdapterProfile, Hardware};
use crate::shape::Problem;

/// Workgroups of 256 that are resident on a processor at once: an NVIDIA one has room for five of them with 48 registers a
/// lane.
const RESIDENT_WORKGROUPS: usize = 5;

/// Invocations of a processor that reach the memory's rate in a reduction: NVIDIA and AMD processors take so many at most.
const INVOCATIONS: usize = 2048;

/// Workgroups of a processor that reduce columns of a small tensor, and of a large one. Each of them writes a partial
/// result for each of its columns.
const COLUMN_WORKGROUPS: (usize, usize) = (2, 8);

/// Fewer vectors a lane are not worth a workgroup of its own: so many are loaded at once.
const LEAST_VECTORS: usize = 4;

pub(super) fn tuning(problem: &Problem, width: VectorWidth, profile: &AdapterProfile) -> Tuning {
    let workgroup_size = largest_workgroup(profile).min(256);
    let (lanes, elements) = (workgroup_size as usize, width.of_vector() as usize);
    let (lanes_across, splits) = if problem.inner == 1 {
        columns(problem, width, lanes, &profile.hardware)
    } else {
        (lanes, planes(problem, lanes, elements, &profile.hardware))
    };
    // A lane of columns begins with the statistics of four channels: the more loads, the less that is. A multiple of four
    // loads, all of which are in flight at once, if enough lanes are left.
    let enough = profile.hardware.processors as usize * INVOCATIONS;
    let loads_of_columns = (problem.elements() / elements / enough / 4 * 4).clamp(4, 16);
    Tuning {
        workgroup_size,
        splits: u32::try_from(splits).unwrap_or(u32::MAX),
        one_dispatch: true,
        groups: 1,
        tile_loads: tile_loads(problem, width, profile),
        loads_per_lane_planes: 4,
        loads_per_lane_columns: loads_of_columns as u32,
        columns_per_lane: 1,
        lanes_across: lanes_across as u32,
    }
}

/// Returns the splits of a channel that lies in planes. One dispatch reads a channel twice: it pays if its invocations
/// fill the GPU, and if all channels that are read at a time fit into half of the cache.
fn planes(problem: &Problem, lanes: usize, elements: usize, hardware: &Hardware) -> usize {
    let Problem { channels, .. } = *problem;
    let values = problem.values_per_channel();
    let vectors = values.div_ceil(lanes * elements);
    let processors = hardware.processors as usize;
    let at_once = channels.min(processors * RESIDENT_WORKGROUPS) as u64;
    let is_cached = at_once.saturating_mul(4 * values as u64) <= hardware.cache / 2;
    let enough = processors * INVOCATIONS;
    if vectors <= LEAST_VECTORS || (channels * lanes >= enough && is_cached) {
        return 1;
    }
    let splits = (enough / lanes).div_ceil(channels).min(vectors / LEAST_VECTORS).max(1);
    // Splits are a whole number of vectors a lane, rounded down.
    vectors.div_ceil(vectors / splits)
}

/// Returns the lanes of a workgroup that go along a row, and the splits of a channel that is a column.
fn columns(problem: &Problem, width: VectorWidth, lanes: usize, hardware: &Hardware) -> (usize, usize) {
    let (rows, loads) = row_of_loads(problem, width);
    // At least eight loads in a row (128 bytes of f32) and four rows, if there are as many. Of these, the fewest that keep most lanes busy: the
    // more rows a workgroup has, the fewer partial results there are.
    let most = (lanes / 4).max(1);
    let widths = loads.min(8).min(most)..=loads.min(most);
    let busy =
        |across: &usize| loads * 1_000 / (loads.div_ceil(*across) * across) * (lanes / across * across);
    let lanes_across = widths.rev().max_by_key(busy).unwrap_or(1);
    let tiles = loads.div_ceil(lanes_across);
    let trips = problem.outer.div_ceil(lanes / lanes_across * rows);
    // Partial results take a sixteenth of an f32 tensor at most, also if blocks are up to an eighth more than asked for.
    let most = (problem.outer / (72 * rows)).min(trips / LEAST_VECTORS);
    let processors = hardware.processors as usize;
    let blocks = |of_processor: usize| (processors * of_processor).div_ceil(tiles).min(most).max(1);
    let (few, many) = COLUMN_WORKGROUPS;
    if problem.elements() > LARGE {
        return (lanes_across, blocks(many));
    }
    // With a split for each row of lanes, a lane of the next dispatch merges one, and waits once.
    let one_each = lanes / lanes_across / rows;
    let blocks = if one_each * tiles >= processors { blocks(few).min(one_each) } else { blocks(few) };
    (lanes_across, blocks)
}

/// Returns how many loads of each tensor a lane should keep.
fn tile_loads(problem: &Problem, width: VectorWidth, profile: &AdapterProfile) -> u32 {
    let tiles = split_into_tiles(problem, tile_width(problem, width), profile);
    // A few workgroups do not reach the full bandwidth. Small tensors do not need it: they take as long as their
    // dispatches.
    if tiles.workgroups < 64 && tiles.loads * tiles.across as usize > 1 << 12 {
        return 0;
    }
    // NVIDIA and AMD have 255 registers a lane; Intel and mobile GPUs have as few as 64.
    let many = profile.device_type != wgpu::DeviceType::IntegratedGpu && profile.subgroup_min_size >= 32;
    if many { 16 } else { 4 }
}
