//! What plans for the same problem may differ in.

use super::arithmetic::{largest_workgroup, period_rows};
use super::tile::held_loads;
use crate::kernels::VectorWidth;
use crate::profile::AdapterProfile;
use crate::shape::Problem;
use std::fmt;

/// How work is spread over an adapter. Any values make a valid plan, since a plan keeps within what the
/// problem and the limits allow; some are faster than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuning {
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
    /// Neighbouring lanes that go along one plane; the others of a workgroup are in other planes.
    pub lanes_per_plane: u32,
    /// Among how many workgroups (planes) or invocations (columns) a channel is divided to be reduced.
    pub splits: u32,
    /// Whether a pass through batch statistics is one dispatch where channels are not divided.
    pub one_dispatch: bool,
    /// In how many groups of channels, one after the other, a pass of several dispatches is done: what a group
    /// reads again is still in a cache that the whole tensor does not fit into. Only where channels lie in planes
    /// that are a whole number of loads.
    pub groups: u32,
    /// How many loads of each tensor an invocation holds at most, in a dispatch that reads memory once. Where a
    /// channel takes more, or with 0, values are read again.
    pub held: u32,
    /// Loads per lane in elementwise kernels, for planes.
    pub loads: u32,
    /// Loads per lane in elementwise kernels, for columns.
    pub loads_down: u32,
    /// Columns per lane at most, one workgroup apart. More than one gives longer contiguous reads and fewer
    /// workgroups.
    pub abreast: u32,
}

/// How many workgroups of undivided channels keep a CPU busy, and among how many the values of fewer
/// channels are divided.
const CPU_WORKGROUPS: (usize, usize) = (16, 64);

/// The same for GPUs.
const GPU_WORKGROUPS: (usize, usize) = (256, 2048);

/// Loads abreast of a lane that goes down columns, on a CPU: of rows shorter than a page of memory, and of others.
/// CPUs fetch ahead along a line of memory, but hardly from row to row: two are up to a third faster than one, and
/// four where every row is another page. More keep more sums, which find no place in registers.
const CPU_ABREAST: (usize, usize) = (2, 4);

/// Bytes of a page of memory.
const PAGE: usize = 4096;

impl Tuning {
    /// What is planned without measuring.
    pub fn new(problem: &Problem, width: VectorWidth, profile: &AdapterProfile) -> Self {
        let largest = largest_workgroup(profile);
        let cpu = profile.is_cpu();
        let workgroup_size = if cpu {
            // Software drivers run one subgroup as the lanes of a vector register, and the subgroups of a
            // workgroup one after another with all barriers unrolled: one subgroup a workgroup is best.
            profile.subgroup_max_size.next_power_of_two().clamp(4, 16).min(largest)
        } else {
            largest.min(256)
        };
        let (lanes, elements) = (workgroup_size as usize, width.elements() as usize);
        let columns = problem.inner == 1;
        // Workgroups, and loads of each lane, where no channel is divided.
        let rows = period_rows(problem, width, lanes);
        let (period, periods) = (problem.channels * rows / elements, problem.outer.div_ceil(rows));
        let most = if problem.channels * 4 < PAGE { CPU_ABREAST.0 } else { CPU_ABREAST.1 };
        let abreast = if cpu && columns { period.div_ceil(lanes).min(most) } else { 1 };
        let (workgroups, loads) = if columns {
            (period.div_ceil(lanes * abreast), periods)
        } else {
            (problem.channels, problem.values_per_channel().div_ceil(lanes * elements))
        };
        let (enough, target) = if cpu { CPU_WORKGROUPS } else { GPU_WORKGROUPS };
        let (whole, least_loads) = if cpu {
            // A dispatch more takes as long as some hundred loads.
            (workgroups >= enough || loads * abreast <= 512, 16)
        } else {
            // A channel that is read again should still be in the cache.
            (workgroups >= enough && loads <= 64 || loads <= 8, 8)
        };
        let splits = if whole { 1 } else { target.div_ceil(workgroups).min(loads / least_loads).max(1) };
        Self {
            workgroup_size,
            lanes_per_plane: if cpu {
                lanes_per_plane(problem, width, workgroup_size)
            } else {
                workgroup_size
            },
            splits: u32::try_from(splits).unwrap_or(u32::MAX),
            one_dispatch: true,
            groups: 1,
            held: held_loads(problem, profile),
            loads: if cpu { 512 } else { 4 },
            loads_down: if cpu { 256 } else { 8 },
            abreast: abreast as u32,
        }
    }

    /// What is worth measuring for a problem: first [`new`](Self::new), then variations of it, most of them in
    /// one value, up to [`MAX_CANDIDATES`](Self::MAX_CANDIDATES) in all. None is there twice, but some may make
    /// the same plan. The same input gives the same candidates.
    pub fn candidates(problem: &Problem, width: VectorWidth, profile: &AdapterProfile) -> Vec<Self> {
        let base = Self::new(problem, width, profile);
        let (largest, columns) = (largest_workgroup(profile), problem.inner == 1);
        let mut all = vec![base];
        let mut add = |tuning: Self| {
            if all.len() < Self::MAX_CANDIDATES && !all.contains(&tuning) {
                all.push(tuning);
            }
        };

        // Divided or not, and by one dispatch or not.
        add(Self { one_dispatch: false, ..base });
        for held in [0, 4, 8, 16, 32] {
            add(Self { held, ..base });
        }
        for splits in [1, base.splits / 2, base.splits.saturating_mul(2), base.splits.saturating_mul(4)] {
            add(Self { splits: splits.max(1), ..base });
        }
        // In groups, of some sizes that caches have.
        let bytes = problem.elements() * 4;
        for megabytes in [64, 32, 16, 8] {
            let groups = bytes.div_ceil(megabytes << 20).max(2);
            add(Self { groups: groups as u32, one_dispatch: false, held: 0, ..base });
        }
        // Other workgroups. Where all lanes are in one plane, they stay so; and the invocations stay as many.
        let size = base.workgroup_size;
        let sizes = if profile.is_cpu() { vec![size * 2] } else { vec![64, 128, 512, 1024] };
        for workgroup_size in sizes.into_iter().filter(|&size| size <= largest) {
            let all_lanes = base.lanes_per_plane == size;
            let lanes_per_plane = if all_lanes { workgroup_size } else { base.lanes_per_plane };
            let resized = Self { workgroup_size, lanes_per_plane, ..base };
            add(resized);
            let invocations = u64::from(base.splits) * u64::from(size);
            let splits = u32::try_from(invocations / u64::from(workgroup_size)).unwrap_or(u32::MAX);
            if base.splits > 1 {
                add(Self { splits: splits.max(1), ..resized });
            }
        }
        // More of each lane's loads, or fewer.
        let scaled = |loads: u32| [loads / 4, loads / 2, loads.saturating_mul(2), loads.saturating_mul(4)];
        for loads in scaled(if columns { base.loads_down } else { base.loads }) {
            let loads = loads.max(1);
            add(if columns { Self { loads_down: loads, ..base } } else { Self { loads, ..base } });
        }
        if columns {
            for abreast in [1, base.abreast / 4, base.abreast / 2, base.abreast * 2] {
                add(Self { abreast: abreast.clamp(1, Self::MAX_ABREAST), ..base });
            }
        } else {
            // No more lanes than there are loads along a plane.
            let loads = problem.inner.div_ceil(width.elements() as usize).max(1).next_power_of_two();
            let most = u32::try_from(loads).unwrap_or(u32::MAX).min(size);
            for shift in 0..5 {
                add(Self { lanes_per_plane: (most >> shift).max(1), ..base });
            }
        }
        all
    }

    /// Most candidates there are for a problem.
    pub const MAX_CANDIDATES: usize = 32;

    /// Most loads abreast: for each, the shader becomes longer, and takes longer to compile.
    pub(crate) const MAX_ABREAST: u32 = 8;
}

/// Lanes that go along one plane, on a CPU. Where planes are short, the lanes at their ends are idle, the more
/// the more of them share one: as many as possible of which at least nine in ten are busy. Half of them in a
/// second plane are a little faster but for long planes.
fn lanes_per_plane(problem: &Problem, width: VectorWidth, workgroup_size: u32) -> u32 {
    let loads = problem.inner.div_ceil(width.elements() as usize).max(1);
    let planes_at_once = |lanes: u32| (workgroup_size / lanes) as usize;
    let mut lanes = workgroup_size;
    while lanes > 1 && planes_at_once(lanes / 2) <= problem.outer {
        let busy = loads * 10 >= loads.next_multiple_of(lanes as usize) * 9;
        let long = loads >= 1024 || lanes < workgroup_size;
        if busy && long {
            break;
        }
        lanes /= 2;
    }
    lanes
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            workgroup_size,
            lanes_per_plane,
            splits,
            one_dispatch,
            groups,
            held,
            loads,
            loads_down,
            abreast,
        } = self;
        write!(
            f,
            "workgroups of {workgroup_size}, {lanes_per_plane} lanes a plane, {splits} splits, \
             one dispatch {one_dispatch}, {groups} groups, {held} held, {loads} loads along, {loads_down} down, {abreast} abreast"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Tuning;
    use crate::kernels::VectorWidth;
    use crate::profile::AdapterProfile;
    use crate::shape::Problem;
    use wgpu::{AdapterInfo, Backend, DeviceType, Features, Limits};

    fn profile(device_type: DeviceType, invocations: u32) -> AdapterProfile {
        let limits = Limits {
            max_compute_invocations_per_workgroup: invocations,
            max_compute_workgroup_size_x: invocations,
            ..Limits::default()
        };
        let info = AdapterInfo::new(device_type, Backend::Vulkan);
        AdapterProfile::new(&info, Features::empty(), limits)
    }

    #[test]
    fn candidates_begin_with_the_heuristic_and_are_few_and_distinct() {
        let problems = [(8, 64, 112 * 112), (2, 3, 5), (1, 1, 1), (100_000, 256, 1), (5, 7, 1), (0, 3, 4)];
        for (outer, channels, inner) in problems {
            let problem = Problem { outer, channels, inner };
            for (device_type, invocations) in
                [(DeviceType::Cpu, 1024), (DeviceType::DiscreteGpu, 1024), (DeviceType::IntegratedGpu, 128)]
            {
                let profile = profile(device_type, invocations);
                for width in [VectorWidth::Scalar, VectorWidth::Four] {
                    let all = Tuning::candidates(&problem, width, &profile);
                    assert_eq!(all[0], Tuning::new(&problem, width, &profile));
                    assert!((4..=Tuning::MAX_CANDIDATES).contains(&all.len()), "{problem}: {}", all.len());
                    for (k, tuning) in all.iter().enumerate() {
                        assert!(!all[..k].contains(tuning), "{problem}: {tuning} is there twice");
                        assert!(tuning.workgroup_size.is_power_of_two(), "{tuning}");
                        assert!(tuning.workgroup_size <= invocations, "{tuning}");
                        let rest = [tuning.lanes_per_plane, tuning.splits, tuning.loads, tuning.loads_down];
                        assert!(rest.iter().all(|&value| value >= 1), "{tuning}");
                        assert!((1..=Tuning::MAX_ABREAST).contains(&tuning.abreast), "{tuning}");
                    }
                    assert_eq!(all, Tuning::candidates(&problem, width, &profile));
                    // Every dimension that matters for the problem is varied.
                    let varied = |value: fn(&Tuning) -> u32| all.iter().any(|t| value(t) != value(&all[0]));
                    assert!(varied(|t| t.workgroup_size) && varied(|t| t.splits), "{problem}");
                    assert!(varied(|t| t.one_dispatch.into()), "{problem}");
                    let loads: fn(&Tuning) -> u32 = if inner == 1 { |t| t.loads_down } else { |t| t.loads };
                    assert!(varied(loads), "{problem}");
                }
            }
        }
    }
}
