//! Plans for adapters of all kinds, without a GPU.

use crate::support::{changed, runner};
use proptest::prelude::*;
use wgpu_batchnorm::kernels::{
    BackwardFinalize, BackwardResident, Finalize, ForwardResident, Kernel, Lanes, Tile, TileLayout,
    Traversal, VectorWidth,
};
use wgpu_batchnorm::plan::Step;
use wgpu_batchnorm::{
    AdapterProfile, BackwardOptions, BatchNormConfig, Error, ForwardOptions, Layout, Plan, PlanInput,
    Problem, Tuning, wgpu,
};

/// Returns an adapter as wgpu describes it.
fn profile(
    name: &str,
    device_type: wgpu::DeviceType,
    subgroups: Option<(u32, u32)>,
    invocations: u32,
) -> AdapterProfile {
    let mut info = wgpu::AdapterInfo::new(device_type, wgpu::Backend::Vulkan);
    name.clone_into(&mut info.name);
    (info.subgroup_min_size, info.subgroup_max_size) = subgroups.unwrap_or((4, 128));
    let features = if subgroups.is_some() { wgpu::Features::SUBGROUP } else { wgpu::Features::empty() };
    let limits = wgpu::Limits {
        max_compute_invocations_per_workgroup: invocations,
        max_compute_workgroup_size_x: invocations,
        ..wgpu::Limits::default()
    };
    AdapterProfile::new(&info, features, limits)
}

fn profiles() -> Vec<AdapterProfile> {
    use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu};
    vec![
        profile("lavapipe", Cpu, Some((8, 8)), 1024),
        profile("SwiftShader", Cpu, Some((4, 4)), 256),
        profile("WARP", Cpu, Some((4, 128)), 1024),
        profile("NVIDIA", DiscreteGpu, Some((32, 32)), 1024),
        profile("AMD", DiscreteGpu, Some((32, 64)), 1024),
        profile("Intel", IntegratedGpu, Some((8, 32)), 1024),
        profile("Adreno", IntegratedGpu, Some((64, 128)), 1024),
        profile("no subgroups", DiscreteGpu, None, 256),
        profile("least of WebGPU's compatibility mode", IntegratedGpu, None, 128),
    ]
}

fn training(problem: &Problem, profile: &AdapterProfile) -> Plan {
    Plan::forward(
        &PlanInput::new(problem, &BatchNormConfig::new(problem.channels()), true, profile),
        &ForwardOptions::new(),
    )
    .unwrap()
}

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
                Lanes::Rows => prop_assert!(is_blocks),
                Lanes::Tree { .. } => prop_assert!(!walk.is_columns()),
                Lanes::Subgroup { min_size, max_size } => {
                    prop_assert!(profile.has_subgroups());
                    let sizes = (profile.subgroup_min_size, profile.subgroup_max_size);
                    prop_assert_eq!((min_size, max_size), sizes);
                    prop_assert!(size.is_multiple_of(max_size));
                }
            }
            Ok((params.reduction, walk))
        };
        let channels = u64::from(step.channels.1);
        let elementwise = |traversal| (params.elementwise, traversal);
        let whole = |walk: Traversal| {
            let masked = matches!(walk, Traversal::PlanesMasked { .. });
            prop_assert!(params.reduction.count == 1 && !masked, "{plan}");
            Ok(())
        };
        // How often the step visits the tensor.
        let mut passes = 1u64;
        let (splits, walk) = match step.kernel {
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
                check_tile(&tile, workgroups, problem)?;
                continue;
            }
            Kernel::BackwardSums(sums) => reduction(sums.lanes, sums.traversal)?,
            Kernel::Normalize(normalize) => elementwise(normalize.traversal),
            Kernel::BackwardInput(input) => elementwise(input.traversal),
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
        let [count, of_inner, outer_chunk, inner_chunk] =
            [splits.count, splits.of_inner, splits.outer_chunk, splits.inner_chunk].map(u64::from);
        let trips = match walk {
            Traversal::Planes { lanes, .. } | Traversal::PlanesMasked { lanes } => {
                let masked = matches!(walk, Traversal::PlanesMasked { .. });
                let width = u64::from(walk.width().elements());
                prop_assert!(lanes.is_power_of_two() && lanes <= size);
                prop_assert_eq!(masked, !(problem.inner() as u64).is_multiple_of(width));
                prop_assert!((problem.elements() as u64).is_multiple_of(width));
                prop_assert!(workgroups >= count * channels);
                // All values are in some split, and no split is empty.
                let (outer, inner) = (problem.outer() as u64, problem.inner() as u64);
                prop_assert_eq!(inner, u64::from(params.inner));
                prop_assert!(inner_chunk.is_multiple_of(width));
                prop_assert!(
                    inner_chunk * of_inner >= inner && inner_chunk * (of_inner - 1) < inner,
                    "{plan}"
                );
                let of_outer = count / of_inner;
                prop_assert_eq!(of_outer * of_inner, count);
                prop_assert!(
                    outer_chunk * of_outer >= outer && outer_chunk * (of_outer - 1) < outer,
                    "{plan}"
                );
                let planes = u64::from(size / lanes);
                let loads = (inner_chunk / width).div_ceil(u64::from(lanes)) + u64::from(masked);
                outer_chunk.div_ceil(planes) * (loads + 1)
            }
            Traversal::Columns { width, columns_per_lane: abreast } => {
                let (width, abreast) = (u64::from(width.elements()), u64::from(abreast));
                let (channels, period, tiles) = (problem.channels() as u64, inner_chunk, of_inner);
                // The next load of an invocation has the same channels, and all loads are whole.
                prop_assert!((period * width).is_multiple_of(channels), "{plan}");
                prop_assert!((values * channels).is_multiple_of(width), "{plan}");
                let blocks = count * channels / (period * width);
                prop_assert_eq!(blocks * period * width, count * channels);
                // All loads are in some block and tile, and no block or tile is empty.
                let (loads, chunk) = (values * channels / width, outer_chunk * period);
                prop_assert!(blocks * chunk >= loads && (blocks - 1) * chunk < loads, "{plan}");
                // All columns of a lane end together.
                prop_assert!(abreast == 1 || loads.is_multiple_of(period), "{plan}");
                let at_once = u64::from(size) * abreast;
                prop_assert!(tiles * at_once >= period && (tiles - 1) * at_once < period, "{plan}");
                prop_assert!(workgroups >= blocks * tiles, "{plan}");
                // The limit also holds if a driver does not unroll the loop over the columns of a lane.
                outer_chunk * (abreast + 1)
            }
            Traversal::ColumnBlocks { width, lanes_across } => {
                let (width, across) = (u64::from(width.elements()), u64::from(lanes_across));
                let (channels, period, tiles) = (problem.channels() as u64, inner_chunk, of_inner);
                let rows = u64::from(size) / across;
                let row = period / rows;
                // Lanes of one column have the same channels, in this period and the next, and all loads are whole.
                prop_assert_eq!(row * rows, period);
                // The step from load to load fits into 32 bits, behind the last load, too.
                prop_assert!(period <= values * channels / width, "{plan}");
                prop_assert!((row * width).is_multiple_of(channels), "{plan}");
                prop_assert!((values * channels).is_multiple_of(width), "{plan}");
                let blocks = count * channels / (row * width);
                prop_assert_eq!(blocks * row * width, count * channels);
                // All loads are in some block and tile, and no block or tile is empty.
                let (loads, chunk) = (values * channels / width, outer_chunk * period);
                prop_assert!(blocks * chunk >= loads && (blocks - 1) * chunk < loads, "{plan}");
                prop_assert!(tiles * across >= row && (tiles - 1) * across < row, "{plan}");
                prop_assert!(workgroups >= blocks * tiles, "{plan}");
                outer_chunk * 2
            }
        };
        let trips = passes * trips;
        // The moments' loop over blocks comes on top of the loop over values.
        prop_assert!(trips + trips.div_ceil(64) + 8 < LAVAPIPE_LOOP_LIMIT, "{trips} trips in {plan}");
    }
    Ok(())
}

/// Checks that every value has a register of some invocation.
fn check_tile(tile: &Tile, workgroups: u64, problem: &Problem) -> Result<(), TestCaseError> {
    let (outer, channels, inner) =
        (problem.outer() as u64, problem.channels() as u64, problem.inner() as u64);
    let (size, loads) = (u64::from(tile.workgroup_size), u64::from(tile.loads));
    prop_assert!((1..=u64::from(Tile::MAX_LOADS)).contains(&loads));
    let width = u64::from(tile.layout.width().elements());
    match tile.layout {
        TileLayout::Planes { .. } => {
            prop_assert!(inner.is_multiple_of(width) && inner > 1);
            prop_assert!(!matches!(tile.lanes, Lanes::Separate));
            prop_assert!(size * loads * width >= outer * inner && workgroups >= channels);
        }
        TileLayout::Columns { .. } => {
            prop_assert!(channels.is_multiple_of(width) && inner == 1);
            let Lanes::Tree { channels: across } = tile.lanes else { panic!("columns: {}", tile.lanes) };
            prop_assert!(size.is_multiple_of(across.into()));
            prop_assert!(size / u64::from(across) * loads >= outer);
            prop_assert!(workgroups * u64::from(across) * width >= channels);
        }
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
                            &PlanInput::new(&problem, &config, training, &profile),
                            &ForwardOptions::new(),
                        )
                        .unwrap()
                    };
                    let options = BackwardOptions::new();
                    let backward = || {
                        Plan::backward(&PlanInput::new(&problem, &config, training, &profile), &options)
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

#[test]
fn stages_follow_mode_and_options() {
    let profile = &profiles()[3];
    let stems_of = |config: BatchNormConfig, training, shape: &[usize], held| -> Vec<&str> {
        let problem = Problem::new(shape, Layout::ChannelsFirst).unwrap();
        let heuristic = Tuning::new(&problem, VectorWidth::Four, profile);
        let not_held = |tuning: &mut Tuning| tuning.tile_loads = 0;
        let tuning = if held { heuristic } else { changed(heuristic, not_held) };
        let plan = Plan::forward(
            &PlanInput::new(&problem, &config, training, profile).tuning(tuning),
            &ForwardOptions::new(),
        )
        .unwrap();
        plan.steps().iter().map(|step| step.kernel.stem()).collect()
    };
    // Returns the kernels of plans that read values again.
    let stems = |config, training, shape: &[usize]| stems_of(config, training, shape, false);
    let config = || BatchNormConfig::new(5);
    let untracked = || config().track_running_stats(false);
    let full = &[4, 5, 6][..];
    let cumulative = || config().momentum(None);
    assert_eq!(stems(config(), true, full), ["moments", "normalize"]);
    assert_eq!(stems(config(), false, full), ["normalize"]);
    // The statistics of the next channel are needed if a load reaches into its plane, and only then.
    let even = &[4, 5, 8][..];
    assert_eq!(stems(config(), true, even), ["forward_one_dispatch"]);
    assert_eq!(stems(cumulative(), true, even), ["count_batch", "forward_one_dispatch"]);
    assert_eq!(stems(untracked(), true, even), ["forward_one_dispatch"]);
    assert_eq!(stems(untracked(), false, even), ["forward_one_dispatch"]);
    let large = &[4, 5, 100_000][..];
    assert_eq!(stems(config(), true, large), ["moments", "finalize", "normalize"]);
    assert_eq!(stems(cumulative(), true, large), ["count_batch", "moments", "finalize", "normalize"]);
    let empty = &[0, 5, 6][..];
    assert_eq!(stems(config(), true, empty), ["count_batch"]);
    assert!(stems(config(), false, empty).is_empty());
    assert!(stems(untracked(), true, empty).is_empty());
    // Channels fit into registers. Plans keep them there if batch statistics are used.
    for shape in [full, even] {
        assert_eq!(stems_of(config(), true, shape, true), ["forward_resident"]);
        assert_eq!(stems_of(cumulative(), true, shape, true), ["count_batch", "forward_resident"]);
        assert_eq!(stems_of(untracked(), false, shape, true), ["forward_resident"]);
        assert_eq!(stems_of(config(), false, shape, true), ["normalize"]);
    }
    assert_eq!(stems_of(config(), true, large, true), ["moments", "finalize", "normalize"]);
}

#[test]
fn groups_have_all_stages_one_after_the_other() {
    let problem = Problem::new(&[4, 10, 100_000], Layout::ChannelsFirst).unwrap();
    let (config, profile) = (BatchNormConfig::new(10).momentum(None), &profiles()[3]);
    let heuristic = Tuning::new(&problem, VectorWidth::Four, profile);
    let plan = |groups| {
        let tuning = changed(heuristic, |tuning| (tuning.groups, tuning.one_dispatch) = (groups, false));
        Plan::forward(
            &PlanInput::new(&problem, &config, true, profile).tuning(tuning),
            &ForwardOptions::new(),
        )
        .unwrap()
    };
    let steps = |plan: &Plan| -> Vec<(&str, (u32, u32))> {
        plan.steps().iter().map(|step| (step.kernel.stem(), step.channels)).collect()
    };
    let three = plan(3);
    assert_eq!(
        steps(&three),
        [
            ("count_batch", (0, 10)),
            ("moments", (0, 4)),
            ("finalize", (0, 4)),
            ("normalize", (0, 4)),
            ("moments", (4, 4)),
            ("finalize", (4, 4)),
            ("normalize", (4, 4)),
            ("moments", (8, 2)),
            ("finalize", (8, 2)),
            ("normalize", (8, 2)),
        ]
    );
    assert!(three.to_string().contains("for 3 groups of channels"), "{three}");
    assert_eq!(three.bytes_moved(), plan(1).bytes_moved());
    // A group has workgroups for its own channels, and no more.
    let workgroups = |plan: &Plan, stem: &str| -> u32 {
        let steps = plan.steps().iter().filter(|step| step.kernel.stem() == stem);
        steps.map(|step| step.grid.iter().product::<u32>()).sum()
    };
    assert_eq!(workgroups(&three, "moments"), workgroups(&plan(1), "moments"));
    assert_eq!(steps(&plan(100)).len(), 1 + 3 * 10);
    // A load that reaches into the next channel's plane needs that channel's statistics.
    let masked = Problem::new(&[4, 10, 100_001], Layout::ChannelsFirst).unwrap();
    let tuning = changed(heuristic, |tuning| (tuning.groups, tuning.one_dispatch) = (3, false));
    let masked = Plan::forward(
        &PlanInput::new(&masked, &config, true, profile).tuning(tuning),
        &ForwardOptions::new(),
    )
    .unwrap();
    assert_eq!(masked.steps().len(), 4, "{masked}");
}

#[test]
fn software_drivers_get_one_subgroup_a_workgroup_and_gpus_get_many() {
    let problem = Problem::new(&[32, 64, 56, 56], Layout::ChannelsFirst).unwrap();
    let sizes: Vec<u32> = profiles()
        .iter()
        .map(|profile| training(&problem, profile).steps()[0].kernel.workgroup_size())
        .collect();
    assert_eq!(sizes, [8, 4, 16, 256, 256, 256, 256, 256, 128]);
}

#[test]
fn channels_that_fit_are_held() {
    let shapes = [
        (&[32, 2048, 7, 7][..], Layout::ChannelsFirst),
        (&[32, 1024, 14, 14], Layout::ChannelsFirst),
        (&[8, 7, 7, 2048], Layout::ChannelsLast),
        (&[256, 4096], Layout::ChannelsFirst),
    ];
    let (nvidia, intel) = (&profiles()[3], &profiles()[5]);
    for (shape, layout) in shapes {
        let problem = Problem::new(shape, layout).unwrap();
        let plan = training(&problem, nvidia);
        let [step] = plan.steps() else { panic!("{plan}") };
        let Kernel::ForwardResident(ForwardResident { tile, .. }) = step.kernel else { panic!("{plan}") };
        let registers = tile.workgroup_size * tile.loads * tile.layout.width().elements();
        assert!(registers <= 1 << 15 && tile.loads <= 16, "{plan}");
        assert_eq!(plan.bytes_moved(), plan.floor_bytes());
        for step in training(&problem, intel).steps() {
            if let Kernel::ForwardResident(ForwardResident { tile, .. }) = step.kernel {
                assert!(tile.loads <= 4, "{} on Intel", tile.loads);
            }
        }
    }
    // These channels are too long, or too few for a whole GPU.
    for shape in [[32, 64, 112, 112], [2048, 3, 4, 4]] {
        let problem = Problem::new(&shape, Layout::ChannelsFirst).unwrap();
        let plan = training(&problem, nvidia);
        let is_resident = |step: &Step| matches!(step.kernel, Kernel::ForwardResident(_));
        assert!(!plan.steps().iter().any(is_resident), "{plan}");
    }
}

/// FXC takes seconds to compile many loads. Only plans for software adapters have many.
#[test]
fn plans_for_fxc_hold_few_loads() {
    let problem = Problem::new(&[8, 1024, 14, 14], Layout::ChannelsFirst).unwrap();
    let loads = |profile: &AdapterProfile| {
        let plan = training(&problem, profile);
        let tiles = plan.steps().iter().filter_map(|step| match step.kernel {
            Kernel::ForwardResident(kernel) => Some(kernel.tile.loads),
            _ => None,
        });
        tiles.max().unwrap_or_default()
    };
    let with_dxc = changed(profiles().remove(0), |profile| profile.backend = wgpu::Backend::Dx12);
    assert!(!with_dxc.is_fxc() && loads(&with_dxc) > 16, "{} loads", loads(&with_dxc));
    let with_fxc = changed(with_dxc, |profile| profile.features = wgpu::Features::empty());
    assert!(with_fxc.is_fxc() && loads(&with_fxc) <= 16, "{} loads", loads(&with_fxc));
    let vulkan = changed(with_fxc, |profile| profile.backend = wgpu::Backend::Vulkan);
    assert!(!vulkan.is_fxc());
}

#[test]
fn few_channels_with_many_values_are_split() {
    let shapes = [
        ([8, 3, 512, 512], Layout::ChannelsFirst),
        ([8, 3, 511, 513], Layout::ChannelsFirst),
        ([8, 512, 512, 3], Layout::ChannelsLast),
    ];
    for (shape, layout) in shapes {
        let problem = Problem::new(&shape, layout).unwrap();
        for profile in profiles() {
            let plan = training(&problem, &profile);
            let splits = plan.params().reduction.count;
            assert!(splits >= 16, "{} splits on {}: {plan}", splits, profile.name);
            // The scratch is also large enough for the plan for unaligned tensors, which may need more splits.
            let scratch = u64::from(splits) * 3 * 16;
            match plan.width() {
                VectorWidth::Scalar => assert_eq!(plan.scratch_bytes(), scratch),
                VectorWidth::Four => {
                    assert!((scratch..=4 * scratch).contains(&plan.scratch_bytes()), "{plan}");
                }
            }
        }
    }
    // Many channels need no splitting.
    let problem = Problem::new(&[8, 4096, 7, 7], Layout::ChannelsFirst).unwrap();
    for profile in profiles() {
        assert_eq!(training(&problem, &profile).params().reduction.count, 1, "{}", profile.name);
    }
}

#[test]
fn more_workgroups_than_a_dimension_holds_take_two() {
    let problem = Problem::new(&[1, 70_000, 2], Layout::ChannelsFirst).unwrap();
    let plan = training(&problem, &profiles()[0]);
    assert_eq!(plan.steps()[0].grid, [35_000, 2, 1], "{plan}");
}

#[test]
fn plans_count_their_bytes() {
    let problem = Problem::new(&[2, 3, 4, 5], Layout::ChannelsFirst).unwrap();
    let plan = training(&problem, &profiles()[0]);
    let tensor = 2 * 3 * 4 * 5 * 4;
    // One dispatch reads values again from the cache. Several dispatches read them again from memory.
    assert_eq!((plan.bytes_moved(), plan.floor_bytes()), (2 * tensor, 2 * tensor));
    let heuristic = Tuning::new(&problem, VectorWidth::Four, &profiles()[0]);
    let tuning = changed(heuristic, |tuning| tuning.one_dispatch = false);
    let config = BatchNormConfig::new(3);
    let plan = Plan::forward(
        &PlanInput::new(&problem, &config, true, &profiles()[0]).tuning(tuning),
        &ForwardOptions::new(),
    )
    .unwrap();
    assert_eq!((plan.bytes_moved(), plan.floor_bytes()), (3 * tensor, 2 * tensor));
    let eval = Plan::forward(
        &PlanInput::new(&problem, &BatchNormConfig::new(3), false, &profiles()[0]),
        &ForwardOptions::new(),
    )
    .unwrap();
    assert_eq!((eval.bytes_moved(), eval.scratch_bytes()), (2 * tensor, 0));
}

#[test]
fn plans_print_themselves() {
    let problem = Problem::new(&[2, 3, 100, 100], Layout::ChannelsFirst).unwrap();
    let text = training(&problem, &profiles()[3]).to_string();
    for part in ["[outer 2, channels 3, inner 10000]", "moments", "subgroups of 32", "finalize", "normalize"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn limits_that_are_too_low_are_named() {
    let problem = Problem::new(&[2, 3, 4, 5], Layout::ChannelsFirst).unwrap();
    let plan = |change: &dyn Fn(&mut wgpu::Limits)| {
        let mut profile = profiles().remove(7);
        change(&mut profile.limits);
        Plan::forward(
            &PlanInput::new(&problem, &BatchNormConfig::new(3), true, &profile),
            &ForwardOptions::new(),
        )
        .unwrap_err()
    };
    let error = plan(&|limits| limits.max_storage_buffer_binding_size = 479);
    assert!(matches!(error, Error::BindingTooLarge { name: "x", bytes: 480, limit: 479 }), "{error}");
    // One dispatch would bind eight buffers. The kernels that replace it bind up to five.
    let error = plan(&|limits| limits.max_storage_buffers_per_shader_stage = 4);
    assert!(
        matches!(
            error,
            Error::Limit { limit: "max_storage_buffers_per_shader_stage", needed: 5, available: 4 }
        ),
        "{error}"
    );
    let error = plan(&|limits| limits.max_compute_workgroup_storage_size = 64);
    assert!(matches!(error, Error::Limit { limit: "max_compute_workgroup_storage_size", .. }), "{error}");
}

/// Shapes of networks, channels first: stages of a ResNet-50, a perceptron, a single image, few and odd channels.
const NETWORKS: [[usize; 4]; 14] = [
    [32, 64, 112, 112],
    [32, 64, 56, 56],
    [32, 256, 56, 56],
    [32, 128, 28, 28],
    [32, 512, 28, 28],
    [32, 256, 14, 14],
    [32, 1024, 14, 14],
    [32, 512, 7, 7],
    [32, 2048, 7, 7],
    [256, 64, 112, 112],
    [256, 2048, 7, 7],
    [4096, 1024, 1, 1],
    [16, 3, 512, 512],
    [20, 100, 35, 45],
];

/// Partial results are written and read again: they must be few beside the tensor.
#[test]
fn plans_for_gpus_have_little_scratch() {
    for [n, c, h, w] in NETWORKS {
        for (shape, layout) in [([n, c, h, w], Layout::ChannelsFirst), ([n, h, w, c], Layout::ChannelsLast)] {
            let problem = Problem::new(&shape, layout).unwrap();
            let config = BatchNormConfig::new(c).layout(layout);
            for mut profile in profiles().into_iter().filter(|profile| !profile.is_cpu()) {
                profile.limits.max_storage_buffer_binding_size = 1 << 31;
                let input = PlanInput::new(&problem, &config, true, &profile);
                let forward = Plan::forward(&input, &ForwardOptions::new()).unwrap();
                let backward = Plan::backward(&input, &BackwardOptions::new()).unwrap();
                for plan in [forward, backward] {
                    let (scratch, tensor) = (plan.scratch_bytes(), problem.elements() as u64 * 4);
                    // Projections of a few bytes a channel are there whatever the plan.
                    assert!(
                        scratch <= tensor / 16 + 16 * c as u64,
                        "{scratch} of {tensor}, {}: {plan}",
                        profile.name
                    );
                }
            }
        }
    }
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
            let input = PlanInput::new(&problem, &config, true, &profile).tuning(tuning);
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
