//! The choices in which plans for the same problem differ.

mod cpu;
mod gpu;

use super::arithmetic::largest_workgroup;
use crate::kernels::{Tile, VectorWidth};
use crate::profile::AdapterProfile;
use crate::shape::Problem;
use std::fmt;

/// How a plan spreads work over an adapter. Every value makes a valid plan, since planning keeps within what the
/// problem and the limits allow. Some values are faster than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tuning {
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
    /// Splits per channel in a reduction: workgroups for planes, and for columns whose lanes merge; else invocations.
    pub splits: u32,
    /// Whether a pass with batch statistics is one dispatch if its channels are not split.
    pub one_dispatch: bool,
    /// Groups of channels that a pass of several dispatches handles one after the other. A group that fits into a
    /// cache is read from there the second time. Only for planes that are a whole number of loads.
    pub groups: u32,
    /// Most loads of each tensor that a lane keeps in registers, in a dispatch that reads memory once. If a channel
    /// needs more, or with 0, the plan reads values again. A load of eight elements counts as two, here and below.
    pub tile_loads: u32,
    /// Loads per lane in elementwise kernels, for planes.
    pub loads_per_lane_planes: u32,
    /// Loads per lane in elementwise kernels, for columns.
    pub loads_per_lane_columns: u32,
    /// Most columns per lane, one workgroup apart. More than one gives longer contiguous reads and fewer
    /// workgroups.
    pub columns_per_lane: u32,
    /// Lanes of a workgroup that go along a row, in reductions of columns. The other lanes take other rows, and lanes of
    /// one column merge. Above half of the workgroup, no lanes merge.
    pub lanes_across: u32,
}

/// One number of a [`Tuning`], for printouts and files.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    /// The phrase in a printout, with `#` for the number.
    phrase: &'static str,
    pub(crate) least: u32,
    pub(crate) most: u32,
    pub(crate) get: fn(&Tuning) -> u32,
}

macro_rules! settings {
    ($($name:ident, $phrase:literal: $least:expr, $most:expr;)*) => {
        /// All numbers, in the order of printouts and files.
        pub(crate) const SETTINGS: &'static [Setting] = &[$(Setting {
            name: stringify!($name),
            phrase: $phrase,
            least: $least,
            most: $most,
            get: |tuning| tuning.$name.into(),
        }),*];

        /// Makes a tuning from the values that `value` returns, in the order of [`SETTINGS`](Self::SETTINGS).
        pub(crate) fn from_values<E>(
            mut value: impl FnMut(&Setting) -> Result<u32, E>,
        ) -> Result<Self, E> {
            let mut settings = Self::SETTINGS.iter();
            let mut next = || settings.next().map_or(Ok(0), &mut value);
            Ok(Self { $($name: Number::from_value(next()?)),* })
        }
    };
}

/// A number, or a switch as 0 or 1.
trait Number {
    fn from_value(value: u32) -> Self;
}

impl Number for u32 {
    fn from_value(value: u32) -> Self {
        value
    }
}

impl Number for bool {
    fn from_value(value: u32) -> Self {
        value != 0
    }
}

/// No adapter has more invocations in a workgroup.
const MAX_WORKGROUP: u32 = 1 << 16;

impl Tuning {
    settings! {
        workgroup_size, "workgroups of #": 1, MAX_WORKGROUP;
        splits, "# splits": 1, u32::MAX;
        one_dispatch, "one dispatch #": 0, 1;
        groups, "# groups": 1, u32::MAX;
        tile_loads, "tile of #": 0, Tile::MAX_VECTORS;
        loads_per_lane_planes, "# loads a lane": 1, u32::MAX;
        loads_per_lane_columns, "# in columns": 1, u32::MAX;
        columns_per_lane, "# columns a lane": 1, Self::MAX_COLUMNS_PER_LANE;
        lanes_across, "rows of #": 1, MAX_WORKGROUP;
    }
}

impl Tuning {
    /// Returns the tuning for plans without measurement: that of a CPU for software drivers, or that of a large GPU.
    pub fn new(problem: &Problem, width: VectorWidth, profile: &AdapterProfile) -> Self {
        if profile.is_cpu() {
            cpu::tuning(problem, width, profile)
        } else {
            gpu::tuning(problem, width, profile)
        }
    }

    /// Returns the tunings that are worth measuring for a problem: first [`new`](Self::new), then variations of it,
    /// most of them in one value, up to [`MAX_CANDIDATES`](Self::MAX_CANDIDATES) in all. No tuning appears twice, but
    /// some may make the same plan. The same input gives the same candidates.
    pub fn candidates(problem: &Problem, width: VectorWidth, profile: &AdapterProfile) -> Vec<Self> {
        let base = Self::new(problem, width, profile);
        let (largest, columns) = (largest_workgroup(profile), problem.inner == 1);
        let mut all = vec![base];
        let mut add = |tuning: Self| {
            if all.len() < Self::MAX_CANDIDATES && !all.contains(&tuning) {
                all.push(tuning);
            }
        };

        // Varies one dispatch, the tile and the splits.
        add(Self { one_dispatch: false, ..base });
        for tile_loads in [0, 4, 8, 16, 32] {
            add(Self { tile_loads, ..base });
        }
        for splits in [1, base.splits / 2, base.splits.saturating_mul(2), base.splits.saturating_mul(4)] {
            add(Self { splits: splits.max(1), ..base });
        }
        // Varies the groups, for some cache sizes.
        let bytes = problem.elements() * 4;
        for megabytes in [64, 32, 16, 8] {
            let groups = bytes.div_ceil(megabytes << 20).max(2);
            add(Self { groups: groups as u32, one_dispatch: false, tile_loads: 0, ..base });
        }
        // Varies the workgroup size. If channels are split, a second candidate keeps the number of invocations.
        let size = base.workgroup_size;
        let sizes = if profile.is_cpu() { vec![size * 2] } else { vec![64, 128, 512, 1024] };
        for workgroup_size in sizes.into_iter().filter(|&size| size <= largest) {
            let no_merge = base.lanes_across == size;
            let lanes_across = if no_merge { workgroup_size } else { base.lanes_across };
            let resized = Self { workgroup_size, lanes_across, ..base };
            add(resized);
            let invocations = u64::from(base.splits) * u64::from(size);
            let splits = u32::try_from(invocations / u64::from(workgroup_size)).unwrap_or(u32::MAX);
            if base.splits > 1 {
                add(Self { splits: splits.max(1), ..resized });
            }
        }
        // Varies the loads per lane.
        let scaled = |loads: u32| [loads / 4, loads / 2, loads.saturating_mul(2), loads.saturating_mul(4)];
        for loads in scaled(if columns { base.loads_per_lane_columns } else { base.loads_per_lane_planes }) {
            let loads = loads.max(1);
            let mut tuning = base;
            *(if columns { &mut tuning.loads_per_lane_columns } else { &mut tuning.loads_per_lane_planes }) =
                loads;
            add(tuning);
        }
        if columns {
            for lanes_across in [size / 16, size / 8, size / 4, size / 2, size] {
                add(Self { lanes_across: lanes_across.max(1), ..base });
            }
            for columns_per_lane in
                [1, base.columns_per_lane / 4, base.columns_per_lane / 2, base.columns_per_lane * 2]
            {
                add(Self { columns_per_lane: columns_per_lane.clamp(1, Self::MAX_COLUMNS_PER_LANE), ..base });
            }
        }
        all
    }

    /// Most candidates for a problem.
    pub const MAX_CANDIDATES: usize = 36;

    /// Most columns per lane. Each one makes the shader longer, and slower to compile.
    pub(crate) const MAX_COLUMNS_PER_LANE: u32 = 8;
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phrase = |setting: &Setting| setting.phrase.replace('#', &(setting.get)(self).to_string());
        f.write_str(&Self::SETTINGS.iter().map(phrase).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::{Setting, Tuning};
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
                        for &Setting { name, least, most, get, .. } in Tuning::SETTINGS {
                            assert!((least..=most).contains(&get(tuning)), "{name} of {tuning}");
                        }
                    }
                    assert_eq!(all, Tuning::candidates(&problem, width, &profile));
                    // Every setting that matters for the problem varies.
                    let varied = |value: fn(&Tuning) -> u32| all.iter().any(|t| value(t) != value(&all[0]));
                    assert!(varied(|t| t.workgroup_size) && varied(|t| t.splits), "{problem}");
                    assert!(varied(|t| t.one_dispatch.into()), "{problem}");
                    let loads: fn(&Tuning) -> u32 =
                        if inner == 1 { |t| t.loads_per_lane_columns } else { |t| t.loads_per_lane_planes };
                    assert!(varied(loads), "{problem}");
                }
            }
        }
    }
}
