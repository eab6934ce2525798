//! Which kernels a plan has, what it counts and prints, and what it refuses.

use super::*;
use wgpu_batchnorm::{ForwardOptions, Mode};

#[test]
fn stages_follow_mode_and_options() {
    let profile = &profiles()[3];
    let stems_of = |config: BatchNormConfig, training: bool, shape: &[usize], held| -> Vec<&str> {
        let problem = Problem::new(shape, Layout::ChannelsFirst).unwrap();
        let heuristic = Tuning::new(&problem, VectorWidth::Four, profile);
        let not_held = |tuning: &mut Tuning| tuning.tile_loads = 0;
        let tuning = if held { heuristic } else { changed(heuristic, not_held) };
        let plan = Plan::forward(
            &PlanInput::new(&problem, &config, training.into(), profile).tuning(tuning),
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
            &PlanInput::new(&problem, &config, Mode::Train, profile).tuning(tuning),
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
        &PlanInput::new(&masked, &config, Mode::Train, profile).tuning(tuning),
        &ForwardOptions::new(),
    )
    .unwrap();
    assert_eq!(masked.steps().len(), 4, "{masked}");
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
        &PlanInput::new(&problem, &config, Mode::Train, &profiles()[0]).tuning(tuning),
        &ForwardOptions::new(),
    )
    .unwrap();
    assert_eq!((plan.bytes_moved(), plan.floor_bytes()), (3 * tensor, 2 * tensor));
    let eval = Plan::forward(
        &PlanInput::new(&problem, &BatchNormConfig::new(3), Mode::Eval, &profiles()[0]),
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
            &PlanInput::new(&problem, &BatchNormConfig::new(3), Mode::Train, &profile),
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
