//! Workgroup sizes, splits and grids: adapts a tuning to a problem and an adapter.

use super::arithmetic::{LARGE, largest_workgroup, parts, period_rows, power_of_two, row_of_loads, u32_of};
use super::tile::{TileSplit, largest_resident_on_cpu, split_into_tiles, tile_width};
use super::tuning::Tuning;
use crate::kernels::{Kernel, Lanes, PARTIAL_BYTES, Splits, Tile, Traversal, VectorWidth};
use crate::profile::AdapterProfile;
use crate::shape::Problem;

/// Most loop iterations of an invocation in one traversal. Lavapipe of Mesa 22.3 silently ends a shader's loops after
/// 65,536 iterations. A quarter of that leaves room for a second traversal and for the loops over blocks, at no cost.
const MAX_TRIPS: usize = 1 << 14;

/// Most partial results of a channel that every workgroup of an elementwise kernel merges: two for each lane.
const MOST_MERGED: u32 = 512;

/// Most partial results of a channel that a lane merges in an elementwise kernel of columns.
const MOST_MERGED_BY_ROW: u32 = 4;

/// Seconds that a GPU waits for a further dispatch: see `internals::cost`.
const DISPATCH: f64 = 2.5e-6;

/// Registers that a lane of a resident kernel needs beside the values that it keeps: with one channel at a time, and with
/// four. (Mesa's compiler for AMD takes up to 60 and 96: benches/results/gpu-compiler.md.)
const OWN_REGISTERS: (u32, u32) = (64, 96);

/// Lays out the kernels of a problem.
pub(super) struct GridPlanner<'a> {
    problem: &'a Problem,
    profile: &'a AdapterProfile,
    /// Elements per load.
    pub(super) width: VectorWidth,
    tuning: Tuning,
    /// Default invocations in a workgroup. Reductions may use fewer, tiles fewer or more.
    pub(super) workgroup_size: u32,
}

/// How the values of every channel are divided among workgroups.
#[derive(Clone, Copy)]
pub(super) struct Division {
    pub(super) traversal: Traversal,
    pub(super) splits: Splits,
    pub(super) workgroups: usize,
}

/// A reduction of every channel, or an elementwise kernel.
#[derive(Clone, Copy)]
pub(super) struct Reduction {
    pub(super) lanes: Lanes,
    pub(super) workgroup_size: u32,
    pub(super) division: Division,
}

impl Reduction {
    /// Checks whether every channel is one split.
    pub(super) fn is_unsplit(&self) -> bool {
        self.division.splits.count == 1
    }

    /// Checks whether one dispatch can reduce every channel and then compute its elements. Masked loads exclude this:
    /// the load at a plane's end reaches into a channel that another workgroup reduces.
    pub(super) fn can_be_one_dispatch(&self) -> bool {
        self.is_unsplit() && self.division.traversal != Traversal::PlanesMasked
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

    /// Returns whether the tuning wants one dispatch if possible.
    pub(super) fn one_dispatch(&self) -> bool {
        self.tuning.one_dispatch
    }

    /// Checks whether the device allows as many storage buffers as the kernel binds.
    pub(super) fn binds(&self, kernel: &Kernel) -> bool {
        kernel.storage_buffers() <= self.profile.limits.max_storage_buffers_per_shader_stage
    }

    /// Returns the groups of channels of a pass with several dispatches: the first channel and the length of each.
    pub(super) fn groups(&self) -> Vec<(usize, usize)> {
        let Problem { channels, inner, .. } = *self.problem;
        let whole_loads = inner > 1 && inner.is_multiple_of(self.width.elements() as usize);
        let wanted = if whole_loads { self.tuning.groups as usize } else { 1 };
        let length = channels.div_ceil(wanted.clamp(1, channels.max(1))).max(1);
        (0..channels.max(1)).step_by(length).map(|first| (first, length.min(channels - first))).collect()
    }

    /// Plans a reduction of every channel to one result per split.
    pub(super) fn reduction(&self) -> Reduction {
        if let Some(reduction) = self.column_blocks(|_| self.tuning.splits as usize) {
            return reduction;
        }
        let columns = self.problem.inner == 1;
        let workgroup_size = if columns {
            self.workgroup_size
        } else {
            let max_size = self.profile.subgroup_max_size;
            // Uses no more lanes than a channel has values, but whole subgroups.
            let values = u32_of(self.problem.values_per_channel().next_power_of_two().min(1 << 16));
            self.workgroup_size.min(values.max(max_size).next_power_of_two())
        };
        let lanes = if columns { Lanes::Separate } else { self.lanes(workgroup_size) };
        let division = self.divide(workgroup_size, self.tuning.splits as usize);
        Reduction { lanes, workgroup_size, division }
    }

    /// Plans columns whose lanes lie in rows and merge, in workgroups whose memory holds the partial results. `wanted` gets
    /// the periods of the tensor and returns how many blocks share them. Returns `None` if the tuning does not ask for it, or
    /// the tensor has fewer rows than a workgroup.
    fn column_blocks(&self, wanted: impl Fn(usize) -> usize) -> Option<Reduction> {
        let Problem { outer, inner, .. } = *self.problem;
        let memory = |size| Lanes::Rows { across: 1 }.workgroup_memory(size, self.width.elements());
        let mut workgroup_size = self.workgroup_size;
        while workgroup_size > 1
            && memory(workgroup_size) > self.profile.limits.max_compute_workgroup_storage_size
        {
            workgroup_size /= 2;
        }
        let lanes = workgroup_size as usize;
        let lanes_across = (self.tuning.lanes_across as usize).max(1);
        if inner != 1 || lanes_across > lanes / 2 {
            return None;
        }
        let (rows_of_x, row) = row_of_loads(self.problem, self.width);
        let tiles = row.div_ceil(lanes_across);
        let across = row.div_ceil(tiles);
        let rows = lanes / across;
        // Kernels step by a period: with the rows of the tensor, its loads fit into 32 bits.
        if rows * rows_of_x > outer {
            return None;
        }
        let periods = outer.div_ceil(rows * rows_of_x);
        let blocks = wanted(periods).max(periods.div_ceil(MAX_TRIPS)).clamp(1, periods);
        let (blocks, chunk) = parts(periods, blocks, 1);
        let traversal = Traversal::ColumnBlocks { width: self.width };
        let splits = Splits {
            count: u32_of(blocks * rows_of_x),
            chunk: u32_of(chunk),
            period: u32_of(rows * row),
            tiles: u32_of(tiles),
        };
        let division = Division { traversal, splits, workgroups: blocks * tiles };
        Some(Reduction { lanes: Lanes::Rows { across: u32_of(across) }, workgroup_size, division })
    }

    /// Returns the tile of workgroups that keep whole channels of `tensors` tensors in registers, and how channels are
    /// divided among them. Returns `None` if the tuning disables tiles, the tensor is empty, its loads are wider than
    /// [`tile_width`], or a channel does not fit.
    pub(super) fn tile(&self, tensors: u32) -> Option<(Tile, Division)> {
        let (problem, width, profile) = (self.problem, self.width, self.profile);
        let at_once = 4 / width.vectors();
        let most = self.tuning.tile_loads.min(Tile::MAX_VECTORS) / width.vectors();
        if most == 0
            || problem.elements() == 0
            || (width != VectorWidth::Scalar && width != tile_width(problem, width))
        {
            return None;
        }
        let TileSplit { across, loads: all, workgroups } = split_into_tiles(problem, width, profile);
        // Starts with four vectors a lane, in whole subgroups, up to the default size. More lanes join while each would
        // have too many loads.
        let subgroup = profile.subgroup_max_size.next_power_of_two();
        let lanes = across * u32_of(all.div_ceil(at_once as usize).next_power_of_two().min(1 << 16));
        let mut workgroup_size = self.workgroup_size.min(lanes.max(subgroup)).max(across);
        let mut largest = largest_workgroup(profile);
        if profile.is_cpu() {
            largest = largest.min(largest_resident_on_cpu(profile, problem, self.workgroup_size));
        }
        let loads_each = |size: u32| u32_of(all.div_ceil((size / across) as usize));
        while loads_each(workgroup_size) > most {
            workgroup_size *= 2;
            if workgroup_size > largest {
                return None;
            }
        }
        let loads = match loads_each(workgroup_size) {
            few if few <= at_once => few,
            // Rounds up, so that not every number has its own kernel.
            many => many.next_multiple_of(at_once).min(most),
        };
        let values = width.elements() * tensors;
        let (traversal, lanes, splits) = if problem.inner == 1 {
            let rows = (workgroup_size / across) as usize;
            let splits = Splits {
                count: 1,
                chunk: u32_of(problem.outer.div_ceil(rows)),
                // More than fits into 32 bits is too much for a workgroup.
                period: u32::try_from(rows * problem.channels / width.elements() as usize).ok()?,
                tiles: u32_of(workgroups),
            };
            (Traversal::ColumnBlocks { width }, Lanes::Rows { across }, splits)
        } else {
            let splits = Splits { count: 1, chunk: u32_of(all), ..Splits::default() };
            (Traversal::Planes { width }, self.lanes(workgroup_size), splits)
        };
        let tile = Tile { traversal, lanes, loads, workgroup_size };
        let fits = workgroup_size <= largest
            && tile.workgroup_memory() <= profile.limits.max_compute_workgroup_storage_size
            && (profile.is_cpu() || self.has_room(&tile, loads * values, workgroups));
        fits.then_some((tile, Division { traversal, splits, workgroups }))
    }

    /// Checks whether workgroups that keep so many values a lane fit on a processor: two, if there are more of them than
    /// processors. One alone loads, reduces and stores in turn; then, memory is idle as long as reading values twice
    /// would take.
    fn has_room(&self, tile: &Tile, values: u32, workgroups: usize) -> bool {
        let own = if tile.traversal.channels_at_once() == 1 { OWN_REGISTERS.0 } else { OWN_REGISTERS.1 };
        let hardware = &self.profile.hardware;
        let at_once = if workgroups > hardware.processors as usize { 2 } else { 1 };
        own + values <= hardware.registers_of_lane
            && at_once * tile.workgroup_size * (own + values) <= hardware.registers
    }

    /// Returns how the lanes of a workgroup merge their results if they share one channel.
    fn lanes(&self, workgroup_size: u32) -> Lanes {
        let (min_size, max_size) = (self.profile.subgroup_min_size, self.profile.subgroup_max_size);
        let whole_subgroups = self.profile.has_subgroups()
            && max_size.is_power_of_two()
            && min_size.is_power_of_two()
            && workgroup_size.is_multiple_of(max_size);
        if whole_subgroups { Lanes::Subgroup { min_size, max_size } } else { Lanes::Rows { across: 1 } }
    }

    /// Checks whether an elementwise kernel after a reduction should begin with the last elements, which the reduction
    /// has left in the cache. CPUs lose more than that: they fetch ahead in the order of memory only.
    pub(super) fn reverses(&self) -> bool {
        !self.profile.is_cpu()
    }

    /// Returns how many vectors a lane of an elementwise kernel loads before it uses the first. GPUs need them in flight.
    /// CPUs have too few registers: planes of 7 × 7 took 1.5 times as long with four.
    pub(super) fn vectors_at_once(&self) -> u32 {
        if self.profile.is_cpu() { 1 } else { 4 }
    }

    /// Returns how the lanes of an elementwise kernel merge the partial results of its channels, so that no dispatch of its
    /// own has to. A GPU waits for a dispatch as long as for reading millions of bytes; a CPU hardly waits.
    pub(super) fn merge(&self, reduction: &Reduction) -> Option<Lanes> {
        let splits = reduction.division.splits.count;
        if self.profile.is_cpu() {
            return None;
        }
        match reduction.lanes {
            // A workgroup has the columns of many channels, each with all their splits, and lanes wait for one split after
            // the other.
            Lanes::Rows { across } if self.problem.inner == 1 => {
                let workgroups = self.elementwise(Some(reduction.lanes)).division.workgroups as f64;
                let bytes =
                    workgroups * f64::from(across * self.width.elements() * splits) * PARTIAL_BYTES as f64;
                let few = splits <= MOST_MERGED_BY_ROW * (reduction.workgroup_size / across);
                (few && bytes <= self.profile.hardware.bandwidth * DISPATCH).then_some(reduction.lanes)
            }
            Lanes::Separate => None,
            _ => (splits <= MOST_MERGED).then(|| self.lanes(self.workgroup_size)),
        }
    }

    /// Divides every channel for an elementwise kernel. `merge` says how lanes merge partial results, if they do.
    pub(super) fn elementwise(&self, merge: Option<Lanes>) -> Reduction {
        let (problem, width) = (self.problem, self.width.elements() as usize);
        let workgroup_size = self.workgroup_size;
        // More loads hide the time that the merge of partial results takes, if enough lanes of each processor are left.
        let more = |lanes: usize, most: usize| {
            let enough = self.profile.hardware.processors as usize * lanes;
            if merge.is_some() { (problem.elements() / width / (enough * 4)).clamp(1, most) } else { 1 }
        };
        let of_column = self.tuning.loads_per_lane_columns.max(1) as usize;
        // A merge in columns reads the results of many channels: there are fewer workgroups. A large tensor has work for
        // all lanes of a large GPU.
        let lanes = if problem.elements() > LARGE { 2048 } else { 128 };
        let loads = (of_column * more(lanes, 2)).min(16);
        if merge.is_some()
            && let Some(blocks) = self.column_blocks(|periods| periods.div_ceil(loads))
        {
            return blocks;
        }
        let wanted = if problem.inner == 1 {
            problem
                .outer
                .div_ceil(period_rows(problem, self.width, workgroup_size as usize))
                .div_ceil(of_column)
        } else {
            // The tuning counts loads of four.
            let of_lane = self.tuning.loads_per_lane_planes.div_ceil(self.width.vectors()).max(1) as usize;
            let of_lane = of_lane * more(2048, 4);
            problem.values_per_channel().div_ceil(workgroup_size as usize * of_lane * width)
        };
        let lanes = merge.unwrap_or(Lanes::Separate);
        Reduction { lanes, workgroup_size, division: self.divide(workgroup_size, wanted) }
    }

    /// Returns how many channels a workgroup should merge if each has `splits` partial results.
    pub(super) fn channels_per_workgroup(&self, splits: u32) -> u32 {
        let lanes = if self.profile.is_cpu() {
            // A second lane is worth its merge only with about eight splits a lane.
            (splits / 8).next_power_of_two().clamp(1, self.workgroup_size)
        } else {
            // A lane that merges several splits waits for the cache with each: a GPU has a lane for each split.
            splits.next_power_of_two().clamp(1, self.workgroup_size)
        };
        self.workgroup_size / lanes
    }

    /// Spreads workgroups over two dimensions if one is too short, in as few rows as possible. Surplus workgroups are
    /// fewer than rows.
    pub(super) fn grid(&self, workgroups: usize) -> [u32; 3] {
        let max = self.profile.limits.max_compute_workgroups_per_dimension.max(1);
        let rows = workgroups.div_ceil(max as usize);
        [u32_of(workgroups.div_ceil(rows)), u32_of(rows), 1]
    }

    /// Divides every channel into about `wanted` splits, or into more if an invocation would exceed [`MAX_TRIPS`].
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
        // The columns of a lane end together, so several columns need whole periods. A lane takes no more columns than
        // the same number of workgroups needs.
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
            chunk: u32_of(chunk),
            period: u32_of(loads),
            tiles: u32_of(tiles),
        };
        Division { traversal, splits, workgroups: blocks * tiles }
    }

    fn divide_planes(&self, workgroup_size: u32, wanted: usize) -> Division {
        let Problem { outer, channels, inner } = *self.problem;
        let width = self.width.elements() as usize;
        // A load at a plane's end may reach into its neighbours. A plane then counts as many loads as it can touch.
        let masked = !inner.is_multiple_of(width);
        let (traversal, loads) = if masked {
            (Traversal::PlanesMasked, outer * ((inner + 2 * width - 2) / width))
        } else {
            (Traversal::Planes { width: self.width }, outer * (inner / width))
        };
        let lanes = workgroup_size as usize;
        let (count, chunk) = parts(loads, wanted.max(loads.div_ceil(MAX_TRIPS * lanes)).max(1), lanes);
        let splits = Splits { count: u32_of(count), chunk: u32_of(chunk), ..Splits::default() };
        Division { traversal, splits, workgroups: count * channels }
    }
}
