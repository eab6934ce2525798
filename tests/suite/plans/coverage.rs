//! Every plan visits every value, with short loops and within the limits.

use super::*;
use wgpu_batchnorm::{ForwardOptions, Mode};

/// Checks what must hold of any plan: every value is visited, no loop is too long, no limit is exceeded.
fn check(plan: &Plan, profile: &AdapterProfile) -> Result<(), TestCaseError> {
    const LAVAPIPE_LOOP_LIMIT: u64 = 65_536;
    let (problem, params) = (plan.problem(), plan.params());
    let values = problem.values_per_channel() as u64;
    for step in plan.steps() {
        let size = step.kernel.workgroup_size();
        prop_assert!(size.is_power_of_two() && size <= profile.limits.max_compute_invocations_per_workgroup);
        prop_assert!(step.kernel.workgroup_memory() <= profile.limits.max_compute_workgroup_storage_size);
        prop_assert!(step.grid.iter().all(|size| (1..=65_535).contains(size)), "{plan}");
        let workgroups = step.grid.iter().map(|size| u64::from(*size)).product::<u64>();
        let reduction = |lanes, walk: Traversal| {
            let is_blocks = matches!(walk, Traversal::ColumnBlocks { .. });
            match lanes {
                Lanes::Separate => prop_assert!(walk.is_columns() && !is_blocks),
                Lanes::Rows { across } => prop_assert!(is_blocks || (across == 1 && !walk.is_columns())),
                Lanes::Subgroup { min_size, max_size } => {
                    prop_assert!(profile.has_subgroups() && !walk.is_columns());
                    let sizes = (profile.subgroup_min_size, profile.subgroup_max_size);
                    prop_assert_eq!((min_size, max_size), sizes);
                    prop_assert!(size.is_multiple_of(max_size));
                }
            }
            Ok((params.reduction, walk, lanes))
        };
        let channels = u64::from(step.channels.1);
        let elementwise = |traversal, merge: Option<Lanes>| {
            (params.elementwise, traversal, merge.unwrap_or(Lanes::Separate))
        };
        let whole = |walk: Traversal| {
            prop_assert!(params.reduction.count == 1 && walk != Traversal::PlanesMasked, "{plan}");
            Ok(())
        };
        // How often the step visits the tensor, and the loads of each lane if it keeps them.
        let (mut passes, mut kept) = (1u64, None);
        let (splits, walk, lanes) = match step.kernel {
            Kernel::Moments(moments) => reduction(moments.lanes, moments.traversal)?,
            Kernel::ForwardOneDispatch(all) => {
                whole(all.traversal)?;
                passes = 2;
                reduction(all.lanes, all.traversal)?
            }
            Kernel::BackwardOneDispatch(all) => {
                whole(all.traversal)?;
                passes = 2;
                reduction(all.lanes, all.traversal)?
            }
            Kernel::ForwardResident(ForwardResident { tile, .. })
            | Kernel::BackwardResident(BackwardResident { tile, .. }) => {
                prop_assert_eq!(channels, problem.channels() as u64);
                prop_assert!((1..=Tile::MAX_VECTORS).contains(&tile.loads));
                whole(tile.traversal)?;
                kept = Some(u64::from(tile.loads));
                reduction(tile.lanes, tile.traversal)?
            }
            Kernel::BackwardSums(sums) => {
                prop_assert!(sums.beside.is_none() || sums.traversal != Traversal::PlanesMasked, "{plan}");
                reduction(sums.lanes, sums.traversal)?
            }
            Kernel::Normalize(normalize) => {
                elementwise(normalize.traversal, normalize.merge.map(|(lanes, _)| lanes))
            }
            Kernel::BackwardInput(input) => elementwise(input.traversal, input.merge.map(|(lanes, _)| lanes)),
            Kernel::Finalize(Finalize { channels_per_workgroup, .. })
            | Kernel::BackwardFinalize(BackwardFinalize { channels_per_workgroup, .. }) => {
                prop_assert!(channels_per_workgroup.is_power_of_two());
                prop_assert!(workgroups * u64::from(channels_per_workgroup) >= channels);
                let lanes = u64::from(size / channels_per_workgroup);
                prop_assert!(lanes >= 1);
                prop_assert!(u64::from(params.reduction.count).div_ceil(lanes) < LAVAPIPE_LOOP_LIMIT / 2);
                continue;
            }
            _ => continue,
        };
        let [count, chunk, period, tiles] =
            [splits.count, splits.chunk, splits.period, splits.tiles].map(u64::from);
        let trips = match walk {
            Traversal::Planes { .. } | Traversal::PlanesMasked => {
                let width = u64::from(walk.width().elements());
                let masked = walk == Traversal::PlanesMasked;
                prop_assert_eq!(masked, !(problem.inner() as u64).is_multiple_of(width));
                prop_assert!((problem.elements() as u64).is_multiple_of(width));
                prop_assert!(workgroups >= count * channels);
                // All loads are in some split, and no split is empty.
                let (outer, inner) = (problem.outer() as u64, problem.inner() as u64);
                prop_assert_eq!(inner, u64::from(params.inner));
                let touched = (0..width).map(|first| (first + inner).div_ceil(width)).max();
                let length = if masked { touched.unwrap() } else { inner / width };
                let loads = outer * length;
                prop_assert!(chunk * count >= loads && chunk * (count - 1) < loads, "{plan}");
                chunk.div_ceil(u64::from(size))
            }
            Traversal::Columns { width, columns_per_lane: abreast } => {
                let (width, abreast) = (u64::from(width.elements()), u64::from(abreast));
                let channels = problem.channels() as u64;
                // The next load of an invocation has the same channels, and all loads are whole.
                prop_assert!((period * width).is_multiple_of(channels), "{plan}");
                prop_assert!((values * channels).is_multiple_of(width), "{plan}");
                let blocks = count * channels / (period * width);
                prop_assert_eq!(blocks * period * width, count * channels);
                // All loads are in some block and tile, and no block or tile is empty.
                let (loads, block) = (values * channels / width, chunk * period);
                prop_assert!(blocks * block >= loads && (blocks - 1) * block < loads, "{plan}");
                // All columns of a lane end together.
                prop_assert!(abreast == 1 || loads.is_multiple_of(period), "{plan}");
                let at_once = u64::from(size) * abreast;
                prop_assert!(tiles * at_once >= period && (tiles - 1) * at_once < period, "{plan}");
                prop_assert!(workgroups >= blocks * tiles, "{plan}");
                // The limit also holds if a driver does not unroll the loop over the columns of a lane.
                chunk * (abreast + 1)
            }
            Traversal::ColumnBlocks { width } => {
                let Lanes::Rows { across } = lanes else { panic!("{lanes}") };
                let (width, across) = (u64::from(width.elements()), u64::from(across));
                let channels = problem.channels() as u64;
                let rows = u64::from(size) / across;
                let row = period / rows;
                // Lanes of one column have the same channels, in this period and the next, and all loads are whole.
                prop_assert_eq!(row * rows, period);
                // The step from load to load fits into 32 bits, behind the last load, too.
                prop_assert!(kept.is_some() || period <= values * channels / width, "{plan}");
                prop_assert!((row * width).is_multiple_of(channels), "{plan}");
                prop_assert!((values * channels).is_multiple_of(width), "{plan}");
                let blocks = count * channels / (row * width);
                prop_assert_eq!(blocks * row * width, count * channels);
                // All loads are in some block and tile, and no block or tile is empty.
                let (loads, block) = (values * channels / width, chunk * period);
                prop_assert!(blocks * block >= loads && (blocks - 1) * block < loads, "{plan}");
                prop_assert!(tiles * across >= row && (tiles - 1) * across < row, "{plan}");
                prop_assert!(workgroups >= blocks * tiles, "{plan}");
                chunk
            }
        };
        prop_assert!(kept.is_none_or(|kept| trips <= kept), "{plan}");
        let trips = passes * trips;
        // The moments' loop over blocks comes on top of the loop over values.
        prop_assert!(trips + trips.div_ceil(64) + 8 < LAVAPIPE_LOOP_LIMIT, "{trips} trips in {plan}");
    }
    Ok(())
}

#[test]
fn plans_cover_everything_within_the_limits() {
    let problems = (
        prop_oneof![1..300usize, 1..2_000_000usize],
        prop_oneof![1..20usize, 1..5_000usize, 60_000..200_000usize],
        prop_oneof![Just(1usize), 2..100usize, 2..1_000_000usize],
    )
        .prop_filter_map("of a size that there is", |(outer, channels, inner)| {
            let problem = Problem::new(&[outer, channels, inner], Layout::ChannelsFirst).ok()?;

            (problem.channels() * 2..=1 << 25).contains(&problem.elements()).then_some(problem)
        });
    runner(500)
        .run(&problems, |problem| {
            let config = BatchNormConfig::new(problem.channels());
            for profile in profiles() {
                for training in [true, false] {
                    let forward = || {
                        Plan::forward(
                            &PlanInput::new(&problem, &config, training.into(), &profile),
                            &ForwardOptions::new(),
                        )
                        .unwrap()
                    };
                    let options = BackwardOptions::new();
                    let backward = || {
                        Plan::backward(
                            &PlanInput::new(&problem, &config, training.into(), &profile),
                            &options,
                        )
                        .unwrap()
                    };
                    check(&forward(), &profile)?;
                    check(&backward(), &profile)?;
                    // Plans are pure functions.
                    prop_assert_eq!(forward(), forward());
                    prop_assert_eq!(backward(), backward());
                }
            }
            Ok(())
        })
        .unwrap();
}

/// Rows of more loads than an index can step by, and workgroups that are taller than the tensor.
#[test]
fn few_rows_of_many_channels_are_planned() {
    let mut profile = profiles().remove(3);
    profile.limits.max_storage_buffer_binding_size = 1 << 33;
    for (rows, channels) in [(3, (1 << 24) - 1), (3, (1 << 24) + 1), (2, 1 << 30), (300, 1 << 22)] {
        let problem = Problem::new(&[rows, channels], Layout::ChannelsFirst).unwrap();
        let heuristic = Tuning::new(&problem, VectorWidth::Four, &profile);
        for lanes_across in [0, 1, heuristic.lanes_across, u32::MAX] {
            let tuning = changed(heuristic, |tuning| {
                (tuning.tile_loads, tuning.lanes_across, tuning.splits) = (0, lanes_across, u32::MAX);
            });
            let config = BatchNormConfig::new(channels);
            let input = PlanInput::new(&problem, &config, Mode::Train, &profile).tuning(tuning);
            for plan in [
                Plan::forward(&input, &ForwardOptions::new()),
                Plan::backward(&input, &BackwardOptions::new()),
            ] {
                match plan {
                    Ok(plan) => check(&plan, &profile).unwrap(),
                    Err(Error::BindingTooLarge { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}
