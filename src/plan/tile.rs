//! Channels that fit into the registers of a workgroup.

use super::arithmetic::power_of_two;
use crate::kernels::VectorWidth;
use crate::profile::AdapterProfile;
use crate::shape::Problem;

/// Returns how many elements a workgroup that keeps whole channels loads at once. A load must not reach into another
/// channel's plane, and a column must not wrap around.
pub(super) fn tile_width(problem: &Problem) -> VectorWidth {
    let length = if problem.inner == 1 { problem.channels } else { problem.inner };
    if length.is_multiple_of(4) { VectorWidth::Four } else { VectorWidth::Scalar }
}

/// The part of a tensor that a workgroup holds, and the number of workgroups.
pub(super) struct TileSplit {
    /// Columns per workgroup; 1 for planes.
    pub(super) across: u32,
    /// Loads of a column, or of a channel's planes.
    pub(super) loads: usize,
    pub(super) workgroups: usize,
}

pub(super) fn split_into_tiles(problem: &Problem, width: VectorWidth, profile: &AdapterProfile) -> TileSplit {
    let Problem { outer, channels, inner } = *problem;
    let elements = width.elements();
    if inner > 1 {
        return TileSplit { across: 1, loads: outer * inner / elements as usize, workgroups: channels };
    }
    // 128 bytes of each row; with a software driver, as many lanes as one vector has.
    let line = 32 / elements;
    let across =
        if profile.is_cpu() { power_of_two(profile.subgroup_max_size.clamp(4, 16)).min(line) } else { line };
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
