//! Workgroup sizes, splits and grids: a tuning, brought within what a problem and an adapter allow.

use super::arithmetic::{largest_workgroup, parts, period_rows, power_of_two, u32_of};
use super::tile::{TileSplit, largest_resident_on_cpu, split_into_tiles, tile_width};
use super::tuning::Tuning;
use crate::kernels::{Kernel, Lanes, Splits, Tile, TileLayout, Traversal, VectorWidth};
use crate::profile::AdapterProfile;
use crate::shape::Problem;

/// Most trips that an invocation may make through the loops of one traversal. Lavapipe of Mesa 22.3 ends a
/// shader's loops silently after 65,536; a quarter of that leaves room for a second traversal and for the loops
/// over blocks, and costs nothing.
const MAX_TRIPS: usize = 1 << 14;

/// Registers of a workgroup that can hold values: half of what a processor of NVIDIA's and AMD's has, so that
/// the rest of the kernel has room.
const GPU_TILE_REGISTERS: u64 = 1 << 15;

/// How a problem's kernels are laid out.
pub(super) struct GridPlanner<'a> {
    problem: &'a Problem,
    profile: &'a AdapterProfile,
    /// How many elements are loaded at once.
    pub(super) width: VectorWidth,
    tuning: Tuning,
    /// Invocations in a workgroup, where nothing asks for fewer.
    pub(super) workgroup_size: u32,
}

/// How the values of every channel are divided among workgroups.
#[derive(Clone, Copy)]
pub(super) struct Division {
    pub(super) traversal: Traversal,
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

impl Reduction {
    /// Whether every channel is one split.
    pub(super) fn is_unsplit(&self) -> bool {
        self.division.splits.count == 1
    }

    /// Whether one dispatch can reduce every channel and then compute its elements: the elements at a ragged
    /// plane's end belong to a channel whose statistics another workgroup has.
    pub(super) fn can_be_one_dispatch(&self) -> bool {
        self.is_unsplit() && !matches!(self.division.traversal, Traversal::PlanesMasked { .. })
    }
}

impl<'a> GridPlanner<'a> {
    pub(super) fn new(
        problem: &'a Problem,
        width: VectorWidth,
        profile: &'a AdapterProfile,
        tuning: Tuning,
    ) -> Self {
        let workgroup_size = power_of_two(tuning.workgroup_size).min(largest_workgroup(profile));
        Self { problem, profile, width, tuning, workgroup_size }
    }

    /// Whether one dispatch is wanted where it is possible.
    pub(super) fn one_dispatch(&self) -> bool {
        self.tuning.one_dispatch
    }

    /// Whether the device lets a kernel have as many buffers as it binds.
    pub(super) fn binds(&self, kernel: &Kernel) -> bool {
        kernel.storage_buffers() <= self.profile.limits.max_storage_buffers_per_shader_stage
    }

    /// The groups of channels that a pass of several dispatches is done in: the first channel of each, and how
    /// many there are.
    pub(super) fn groups(&self) -> Vec<(usize, usize)> {
        let Problem { channels, inner, .. } = *self.problem;
        let whole_loads = inner > 1 && inner.is_multiple_of(self.width.elements() as usize);
        let wanted = if whole_loads { self.tuning.groups as usize } else { 1 };
        let length = channels.div_ceil(wanted.clamp(1, channels.max(1))).max(1);
        (0..channels.max(1)).step_by(length).map(|first| (first, length.min(channels - first))).collect()
    }

    /// How to reduce every channel to one result per split.
    pub(super) fn reduction(&self) -> Reduction {
        let columns = self.problem.inner == 1;
        let workgroup_size = if columns {
            self.workgroup_size
        } else {
            let max_size = self.profile.subgroup_max_size;
            // No more lanes than a channel has values, but whole subgroups.
            let values = u32_of(self.problem.values_per_channel().next_power_of_two().min(1 << 16));
            self.workgroup_size.min(values.max(max_size).next_power_of_two())
        };
        let lanes = if columns { Lanes::Separate } else { self.lanes(workgroup_size) };
        let division = self.divide(workgroup_size, self.tuning.splits as usize);
        Reduction { lanes, workgroup_size, division }
    }

    /// How workgroups can hold whole channels, in so many `tensors`, and how many workgroups that takes: not
    /// where the tuning wants none held, or a channel does not fit.
    pub(super) fn tile(&self, tensors: u32) -> Option<(Tile, usize)> {
        let (problem, width, profile) = (self.problem, self.width, self.profile);
        let most = self.tuning.tile_loads.min(Tile::MAX_LOADS);
        if most == 0
            || problem.elements() == 0
            || (width != VectorWidth::Scalar && width != tile_width(problem))
        {
            return None;
        }
        let TileSplit { across, loads, workgroups } = split_into_tiles(problem, width, profile);
        // As many lanes as have four loads each, in whole subgroups, up to a workgroup's usual size; and more
        // where each would have too many loads.
        let subgroup = profile.subgroup_max_size.next_power_of_two();
        let lanes = across * u32_of(loads.div_ceil(4).next_power_of_two().min(1 << 16));
        let mut workgroup_size = self.workgroup_size.min(lanes.max(subgroup)).max(across);
        let mut largest = largest_workgroup(profile);
        if profile.is_cpu() {
            largest = largest.min(largest_resident_on_cpu(profile, problem, self.workgroup_size));
        }
        let loads_each = |size: u32| u32_of(loads.div_ceil((size / across) as usize));
        while loads_each(workgroup_size) > most {
            workgroup_size *= 2;
            if workgroup_size > largest {
                return None;
            }
        }
        let loads = match loads_each(workgroup_size) {
            few @ 0..=4 => few,
            // Not a kernel for every number.
            many => many.next_multiple_of(4).min(most),
        };
        let values = width.elements() * tensors;
        let registers = u64::from(workgroup_size) * u64::from(loads * values);
        let (layout, lanes) = if problem.inner == 1 {
            (TileLayout::Columns { width }, Lanes::Tree { channels: across })
        } else {
            (TileLayout::Planes { width }, self.lanes(workgroup_size))
        };
        let tile = Tile { layout, lanes, loads, workgroup_size };
        let fits = workgroup_size <= largest
            && tile.workgroup_memory() <= profile.limits.max_compute_workgroup_storage_size
            && (profile.is_cpu() || registers <= GPU_TILE_REGISTERS);
        fits.then_some((tile, workgroups))
    }

    /// How the lanes of a workgroup that has one channel merge their results.
    fn lanes(&self, workgroup_size: u32) -> Lanes {
        let (min_size, max_size) = (self.profile.subgroup_min_size, self.profile.subgroup_max_size);
        let whole_subgroups = self.profile.has_subgroups()
            && max_size.is_power_of_two()
            && min_size.is_power_of_two()
            && workgroup_size.is_multiple_of(max_size);
        if whole_subgroups { Lanes::Subgroup { min_size, max_size } } else { Lanes::Tree { channels: 1 } }
    }

    /// How to visit every element.
    pub(super) fn elementwise(&self) -> Division {
        let (problem, width) = (self.problem, self.width.elements() as usize);
        let wanted = if problem.inner == 1 {
            let periods =
                problem.outer.div_ceil(period_rows(problem, self.width, self.workgroup_size as usize));
            periods.div_ceil(self.tuning.loads_per_lane_columns.max(1) as usize)
        } else {
            let loads = self.workgroup_size as usize * self.tuning.loads_per_lane_planes.max(1) as usize;
            problem.values_per_channel().div_ceil(loads * width)
        };
        self.divide(self.workgroup_size, wanted)
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

    /// Divides every channel into about so many splits, but never so few that an invocation exceeds
    /// [`MAX_TRIPS`].
    fn divide(&self, workgroup_size: u32, wanted: usize) -> Division {
        if self.problem.inner == 1 {
            self.divide_columns(workgroup_size, wanted)
        } else {
            self.divide_planes(workgroup_size, wanted)
        }
    }

    fn divide_columns(&self, workgroup_size: u32, wanted: usize) -> Division {
        let Problem { outer, channels, .. } = *self.problem;
        let (width, lanes) = (self.width.elements() as usize, workgroup_size as usize);
        let rows = period_rows(self.problem, self.width, lanes);
        let (loads, periods) = (rows * channels / width, outer.div_ceil(rows));
        let blocks = wanted.max(periods.div_ceil(MAX_TRIPS)).clamp(1, periods);
        let (blocks, chunk) = parts(periods, blocks, 1);
        // What lies columns_per_lane ends together; and no more than as many workgroups need.
        let most = if outer.is_multiple_of(rows) {
            self.tuning.columns_per_lane.clamp(1, Tuning::MAX_COLUMNS_PER_LANE)
        } else {
            1
        };
        let (groups, most) = (loads.div_ceil(lanes), most as usize);
        let columns_per_lane = groups.div_ceil(groups.div_ceil(most)).min((MAX_TRIPS / chunk).max(1));
        let tiles = loads.div_ceil(lanes * columns_per_lane);
        let traversal = Traversal::Columns { width: self.width, columns_per_lane: u32_of(columns_per_lane) };
        let splits = Splits {
            count: u32_of(blocks * rows),
            of_inner: u32_of(tiles),
            outer_chunk: u32_of(chunk),
            inner_chunk: u32_of(loads),
        };
        Division { traversal, splits, workgroups: blocks * tiles }
    }

    fn divide_planes(&self, workgroup_size: u32, wanted: usize) -> Division {
        let Problem { outer, channels, inner } = *self.problem;
        let width = self.width.elements() as usize;
        // Loads along a plane, the lanes that these keep busy, and the planes that a workgroup has in hand.
        let ragged = !inner.is_multiple_of(width);
        let loads = inner.div_ceil(width);
        let lanes = power_of_two(self.tuning.lanes_per_plane)
            .min(workgroup_size)
            .min(u32_of(loads.next_power_of_two()));
        let planes = (workgroup_size / lanes) as usize;
        let traversal = if ragged {
            Traversal::PlanesMasked { lanes }
        } else {
            Traversal::Planes { lanes, width: self.width }
        };
        let lanes = lanes as usize;
        let mut count = wanted.max(1);
        loop {
            // Whole planes, and parts of them where there are not enough.
            let (outer_splits, outer_chunk) = parts(outer, count, planes);
            let (of_inner, inner_chunk) = parts(loads, count.div_ceil(outer_splits), lanes);
            // For each plane one trip more to go on to the next, and one where planes are ragged.
            let trips = outer_chunk.div_ceil(planes) * (inner_chunk.div_ceil(lanes) + 2);
            if trips <= MAX_TRIPS || (outer_chunk == planes && inner_chunk == lanes) {
                let splits = Splits {
                    count: u32_of(outer_splits * of_inner),
                    of_inner: u32_of(of_inner),
                    outer_chunk: u32_of(outer_chunk),
                    inner_chunk: u32_of(inner_chunk * width),
                };
                return Division { traversal, splits, workgroups: outer_splits * of_inner * channels };
            }
            count *= 2;
        }
    }
}
