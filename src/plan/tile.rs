//! Channels that fit into the registers of a workgroup.

use super::arithmetic::power_of_two;
use crate::kernels::VectorWidth;
use crate::profile::AdapterProfile;
use crate::shape::Problem;

/// Returns how many elements a workgroup that keeps whole channels loads at once, where other kernels may load up to
/// `widest`. A load must not reach into another channel's plane, and a column must not wrap around.
pub(super) fn tile_width(problem: &Problem, widest: VectorWidth) -> VectorWidth {
    let length = if problem.inner == 1 { problem.channels } else { problem.inner };
    match length.is_multiple_of(4) {
        true if widest == VectorWidth::Eight => VectorWidth::Eight,
        true => VectorWidth::Four,
        false => VectorWidth::Scalar,
    }
}

/// The part of a tensor that a workgroup holds, and the number of workgroups.
pub(super) struct TileSplit {
    /// Columns per workgroup; 1 for planes.
    pub(super) across: u32,
    /// Loads of a column, or of a channel's planes.
    pub(super) loads: usize,
    pub(super) workgroups: usize,
}

/// Invocations of a workgroup on a GPU, and loads that they should keep at most.
const GPU_LANES: usize = 256;
const GPU_LOADS: usize = 16;

pub(super) fn split_into_tiles(problem: &Problem, width: VectorWidth, profile: &AdapterProfile) -> TileSplit {
    let Problem { outer, channels, inner } = *problem;
    let elements = width.elements();
    if inner > 1 {
        return TileSplit { across: 1, loads: outer * inner / elements as usize, workgroups: channels };
    }
    let line = 32 / elements;
    let across = if profile.is_cpu() {
        // As many lanes as one vector has.
        power_of_two(profile.subgroup_max_size.clamp(4, 16)).min(line)
    } else if width == VectorWidth::Scalar {
        line
    } else {
        // 128 bytes of each row of f32; or down to 32, which is what memory delivers, if the rows are many: more lanes then
        // share a column, and more workgroups the tensor.
        let is_short = |across: &u32| outer * *across as usize <= GPU_LANES * GPU_LOADS;
        [line, line / 2].into_iter().find(is_short).unwrap_or(line / 4)
    };
    TileSplit { across, loads: outer, workgroups: channels.div_ceil((across * elements) as usize) }
}

/// Returns the largest workgroup that holds channels with a software driver. Software drivers run the subgroups of a
/// workgroup one after another, and keep the tile of each on the stack. Lavapipe switches between subgroups at little
/// cost: two subgroups are faster than reading planes again, and any number is faster than reading columns again.
/// SwiftShader, which has four lanes, takes many times as long.
pub(super) fn largest_resident_on_cpu(
    profile: &AdapterProfile,
    problem: &Problem,
    workgroup_size: u32,
) -> u32 {
    match (profile.subgroup_max_size < 8, problem.inner > 1) {
        (true, _) => workgroup_size,
        (false, true) => 2 * workgroup_size,
        (false, false) => u32::MAX,
    }
}
