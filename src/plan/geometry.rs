//! Workgroup sizes, splits and grids: how work is spread over an adapter.

use crate::kernels::{Lanes, Splits, Walk, Width};
use crate::{AdapterProfile, Problem};

/// Most trips that an invocation may make through its loops. Lavapipe of Mesa 22.3 ends a shader's loops
/// silently after 65,536; a quarter of that leaves room for the blocks' own loop and costs nothing.
const MAX_TRIPS: usize = 1 << 14;

/// How many workgroups keep an adapter busy, and how many values an invocation should at least take, so
/// that starting it is worth while. First figures; every adapter family gets its own row here.
pub(super) struct Geometry<'a> {
    profile: &'a AdapterProfile,
    /// Invocations in a workgroup.
    pub(super) workgroup_size: u32,
    /// Workgroups that reductions aim at.
    target_workgroups: usize,
    /// Values that an invocation of a reduction should take at least.
    min_trips: usize,
    /// Values that an invocation of an elementwise kernel should take.
    map_trips: usize,
}

/// How the values of every channel are divided among workgroups.
#[derive(Clone, Copy)]
pub(super) struct Division {
    pub(super) walk: Walk,
    pub(super) splits: Splits,
    pub(super) workgroups: usize,
}

/// A reduction of every channel.
#[derive(Clone, Copy)]
pub(super) struct Reduction {
    pub(super) lanes: Lanes,
    pub(super) workgroup_size: u32,
    pub(super) division: Division,
}

impl<'a> Geometry<'a> {
    pub(super) fn new(profile: &'a AdapterProfile) -> Self {
        let largest = profile
            .limits
            .max_compute_invocations_per_workgroup
            .min(profile.limits.max_compute_workgroup_size_x)
            .max(1);
        let largest = 1 << largest.ilog2();
        if profile.is_cpu() {
            // Software drivers run one subgroup as the lanes of a vector register, and the subgroups of a
            // workgroup one after another with all barriers unrolled: one subgroup a workgroup is best.
            let subgroup = profile.subgroup_max_size.next_power_of_two().clamp(4, 16);
            let workgroup_size = subgroup.min(largest);
            Self { profile, workgroup_size, target_workgroups: 64, min_trips: 64, map_trips: 1024 }
        } else {
            let workgroup_size = largest.min(256);
            Self { profile, workgroup_size, target_workgroups: 2048, min_trips: 8, map_trips: 8 }
        }
    }

    /// How to reduce every channel to one partial result per split.
    pub(super) fn reduction(&self, problem: &Problem, width: Width) -> Reduction {
        let (min_size, max_size) = (self.profile.subgroup_min_size, self.profile.subgroup_max_size);
        let columns = problem.inner == 1;
        let workgroup_size = if columns {
            self.workgroup_size
        } else {
            // No more lanes than a channel has values, but whole subgroups.
            let values = u32_of(problem.values_per_channel().next_power_of_two().min(1 << 16));
            self.workgroup_size.min(values.max(max_size).next_power_of_two())
        };
        let whole_subgroups = self.profile.has_subgroups()
            && max_size.is_power_of_two()
            && min_size.is_power_of_two()
            && workgroup_size.is_multiple_of(max_size);
        let lanes = match (columns, whole_subgroups) {
            (true, _) => Lanes::Alone,
            (false, true) => Lanes::Subgroup { min_size, max_size },
            (false, false) => Lanes::Tree { channels: 1 },
        };
        let division = divide(problem, width, workgroup_size, |values, lanes| {
            let target = self.target_workgroups * workgroup_size as usize / lanes;
            let enough = target.div_ceil(problem.channels);
            enough.min(values / (lanes * self.min_trips))
        });
        Reduction { lanes, workgroup_size, division }
    }

    /// How to visit every element.
    pub(super) fn map(&self, problem: &Problem, width: Width) -> Division {
        divide(problem, width, self.workgroup_size, |values, lanes| values.div_ceil(lanes * self.map_trips))
    }

    /// How many channels a workgroup should take when it merges so many partial results of each.
    pub(super) fn channels_per_workgroup(&self, splits: u32) -> u32 {
        // Eight splits a lane before a second lane is worth its merge.
        let lanes = (splits / 8).next_power_of_two().clamp(1, self.workgroup_size);
        self.workgroup_size / lanes
    }

    /// Spreads workgroups over two dimensions where one is not enough, with as few surplus ones as
    /// possible.
    pub(super) fn grid(&self, workgroups: usize) -> [u32; 3] {
        let max = self.profile.limits.max_compute_workgroups_per_dimension.max(1);
        let rows = workgroups.div_ceil(max as usize);
        [u32_of(workgroups.div_ceil(rows)), u32_of(rows), 1]
    }
}

/// Divides every channel into splits of about the number that `wanted(values, lanes)` asks for, where
/// `lanes` is how many lanes share a split, but never so few that an invocation exceeds [`MAX_TRIPS`].
fn divide(
    problem: &Problem,
    width: Width,
    workgroup_size: u32,
    wanted: impl Fn(usize, usize) -> usize,
) -> Division {
    let values = problem.values_per_channel();
    if problem.inner == 1 {
        let count = wanted(values, 1).max(values.div_ceil(MAX_TRIPS)).clamp(1, values);
        let workgroups = (count * problem.channels).div_ceil(workgroup_size as usize);
        let splits = Splits { count: u32_of(count), of_inner: 1, outer_chunk: 1, inner_chunk: 1 };
        return Division { walk: Walk::Columns, splits, workgroups };
    }
    // The lanes that one plane keeps busy, and the planes that a workgroup has in hand.
    let inner = problem.inner / width.elements() as usize;
    let lanes = workgroup_size.min(u32_of(inner.next_power_of_two()));
    let planes = (workgroup_size / lanes) as usize;
    let mut count = wanted(values, workgroup_size as usize).max(1);
    // From here on, what counts along a plane counts what is loaded at once.
    loop {
        // Whole planes, and parts of them where there are not enough.
        let (outer_splits, outer_chunk) = parts(problem.outer, count, planes);
        let (of_inner, inner_chunk) = parts(inner, count.div_ceil(outer_splits), lanes as usize);
        // One trip more for each plane, to go on to the next.
        let trips = outer_chunk / planes * (inner_chunk.div_ceil(lanes as usize) + 1);
        if trips <= MAX_TRIPS || (outer_chunk == planes && inner_chunk == lanes as usize) {
            let splits = Splits {
                count: u32_of(outer_splits * of_inner),
                of_inner: u32_of(of_inner),
                outer_chunk: u32_of(outer_chunk),
                inner_chunk: u32_of(inner_chunk),
            };
            let workgroups = outer_splits * of_inner * problem.channels;
            return Division { walk: Walk::Planes { lanes, width }, splits, workgroups };
        }
        count *= 2;
    }
}

/// Divides `length` into about `count` parts, each a multiple of `unit` but the last, and none empty: how
/// many, and how long.
fn parts(length: usize, count: usize, unit: usize) -> (usize, usize) {
    let chunk = length.div_ceil(count).next_multiple_of(unit);
    (length.div_ceil(chunk), chunk)
}

/// Numbers that [`Problem::new`] and [`split`] keep below 2³².
pub(super) fn u32_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or_else(|_| unreachable!("{number} does not fit into 32 bits"))
}
