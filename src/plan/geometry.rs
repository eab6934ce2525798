//! Workgroup sizes, splits and grids: how work is spread over an adapter.

use crate::kernels::{Lanes, Walk};
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

/// How a channel's values are divided.
#[derive(Clone, Copy)]
pub(super) struct Splits {
    /// Parts of each channel.
    pub(super) splits: usize,
    /// Values in each part, at most.
    pub(super) chunk: usize,
    /// Workgroups in all.
    pub(super) workgroups: usize,
}

/// A reduction of every channel.
#[derive(Clone, Copy)]
pub(super) struct Reduction {
    pub(super) lanes: Lanes,
    pub(super) workgroup_size: u32,
    pub(super) splits: Splits,
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
    pub(super) fn reduction(&self, problem: &Problem, walk: Walk) -> Reduction {
        let (min_size, max_size) = (self.profile.subgroup_min_size, self.profile.subgroup_max_size);
        let workgroup_size = match walk {
            // No more lanes than a channel has values, but whole subgroups.
            Walk::Planes => {
                let values = u32_of(problem.values_per_channel().next_power_of_two().min(1 << 16));
                self.workgroup_size.min(values.max(max_size).next_power_of_two())
            }
            Walk::Columns => self.workgroup_size,
        };
        let whole_subgroups = self.profile.has_subgroups()
            && max_size.is_power_of_two()
            && min_size.is_power_of_two()
            && workgroup_size.is_multiple_of(max_size);
        let lanes = match walk {
            Walk::Columns => Lanes::Alone,
            Walk::Planes if whole_subgroups => Lanes::Subgroup { min_size, max_size },
            Walk::Planes => Lanes::Tree { channels: 1 },
        };
        let splits = split(problem, walk, workgroup_size as usize, |values, lanes| {
            let target = self.target_workgroups * workgroup_size as usize / lanes;
            let enough = target.div_ceil(problem.channels);
            enough.min(values / (lanes * self.min_trips))
        });
        Reduction { lanes, workgroup_size, splits }
    }

    /// How to visit every element.
    pub(super) fn map(&self, problem: &Problem, walk: Walk) -> Splits {
        split(problem, walk, self.workgroup_size as usize, |values, lanes| {
            values.div_ceil(lanes * self.map_trips)
        })
    }

    /// How many channels a workgroup should take when it merges so many partial results of each.
    pub(super) fn channels_per_workgroup(&self, splits: usize) -> u32 {
        // Eight splits a lane before a second lane is worth its merge.
        let lanes = (splits / 8).next_power_of_two().clamp(1, self.workgroup_size as usize);
        self.workgroup_size / u32_of(lanes)
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
fn split(
    problem: &Problem,
    walk: Walk,
    workgroup_size: usize,
    wanted: impl Fn(usize, usize) -> usize,
) -> Splits {
    let values = problem.values_per_channel();
    let lanes = match walk {
        Walk::Planes => workgroup_size,
        Walk::Columns => 1,
    };
    let fewest = values.div_ceil(lanes * MAX_TRIPS);
    let splits = wanted(values, lanes).max(fewest).clamp(1, values);
    match walk {
        Walk::Planes => {
            // Whole rounds of the workgroup, so that all lanes but the last split's have equal work.
            let chunk = values.div_ceil(splits).next_multiple_of(lanes);
            let splits = values.div_ceil(chunk);
            Splits { splits, chunk, workgroups: splits * problem.channels }
        }
        Walk::Columns => {
            let workgroups = (splits * problem.channels).div_ceil(workgroup_size);
            Splits { splits, chunk: values.div_ceil(splits), workgroups }
        }
    }
}

/// Numbers that [`Problem::new`] and [`split`] keep below 2³².
pub(super) fn u32_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or_else(|_| unreachable!("{number} does not fit into 32 bits"))
}
