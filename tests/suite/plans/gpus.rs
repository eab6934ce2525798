//! Plans for GPUs that are not here: what they move, how often they wait, and what a model of their cost says.

use super::adapters::NETWORKS;
use super::*;
use wgpu_batchnorm::internals::{cost, known_gpus};
use wgpu_batchnorm::{DType, Direction, ForwardOptions, Mode};

const LAYOUTS: [Layout; 2] = [Layout::ChannelsFirst, Layout::ChannelsLast];

/// Returns the plan of a training pass.
fn plan(
    sizes: [usize; 4],
    layout: Layout,
    dtype: DType,
    direction: Direction,
    profile: &AdapterProfile,
) -> Plan {
    let [n, c, h, w] = sizes;
    let shape = if layout == Layout::ChannelsFirst { [n, c, h, w] } else { [n, h, w, c] };
    let problem = Problem::new(&shape, layout).unwrap();
    let config = BatchNormConfig::new(c).layout(layout);
    let input = PlanInput::new(&problem, &config, Mode::Train, profile);
    match direction {
        Direction::Forward => Plan::forward(&input, &ForwardOptions::new().dtype(dtype)),
        Direction::Backward => Plan::backward(&input, &BackwardOptions::new().dtype(dtype)),
    }
    .unwrap()
}

/// Calls `check` with every plan for networks on every GPU that binds the tensors.
fn for_every_plan(check: impl Fn(&str, &AdapterProfile, &Plan, Layout)) {
    for (name, profile) in known_gpus() {
        for sizes in NETWORKS {
            for (layout, dtype) in LAYOUTS.into_iter().flat_map(|l| [(l, DType::F32), (l, DType::F16)]) {
                for direction in [Direction::Forward, Direction::Backward] {
                    check(name, &profile, &plan(sizes, layout, dtype, direction, &profile), layout);
                }
            }
        }
    }
}

#[test]
fn scratch_is_small_and_little_is_moved_twice() {
    for_every_plan(|name, _, plan, _| {
        let tensor = plan.problem().elements() as u64 * 4;
        let per_channel = 16 * plan.problem().channels() as u64;
        assert!(plan.scratch_bytes() <= tensor / 16 + per_channel, "{name}: {plan}");
        let most = if plan.is_forward() { 1.5 } else { 1.67 };
        let share = plan.bytes_moved() as f64 / plan.floor_bytes() as f64;
        assert!(share <= most, "{name}, {share}: {plan}");
    });
}

/// Loads and stores of planes have 16 bytes in every type, where planes are whole loads. In columns, loads of 16 bits have
/// 8 bytes: with 16, a lane would have the sums of eight channels, and AMD's compiler takes twice the registers.
#[test]
fn loads_have_sixteen_bytes() {
    for_every_plan(|name, _, plan, _| {
        let (problem, bytes) = (plan.problem(), plan.dtype().bytes());
        let load = u64::from(plan.width().elements()) * bytes;
        // Tensors that begin in the middle of a load have narrower ones.
        let kernels = plan.kernels();
        for elements in [8, 4, 1].into_iter().filter(|elements| *elements <= plan.width().elements()) {
            let is_of = |kernel: &Kernel| kernel.variant().contains(&format!(" by {elements}"));
            assert!(kernels.iter().any(is_of), "by {elements}: {name}: {plan}");
        }
        match problem.inner() {
            1 => assert_eq!(load, 4 * bytes, "{name}: {plan}"),
            inner if (inner as u64 * bytes).is_multiple_of(16) => assert_eq!(load, 16, "{name}: {plan}"),
            _ => assert!(load <= 4 * bytes, "{name}: {plan}"),
        }
    });
    let problem = Problem::new(&[8, 16, 32, 32], Layout::ChannelsFirst).unwrap();
    for profile in profiles().iter().filter(|profile| profile.is_cpu()) {
        let config = BatchNormConfig::new(16);
        let input = PlanInput::new(&problem, &config, Mode::Train, profile);
        let plan = Plan::forward(&input, &ForwardOptions::new().dtype(DType::BF16)).unwrap();
        assert_eq!(plan.width(), VectorWidth::Four, "{plan}");
    }
}

/// Two dispatches are enough, but where every workgroup would have to merge many partial results of many columns, and where
/// a device binds too few buffers.
#[test]
fn passes_wait_once() {
    for_every_plan(|name, profile, plan, layout| {
        let columns = layout == Layout::ChannelsLast || plan.problem().inner() == 1;
        let few_buffers = profile.limits.max_storage_buffers_per_shader_stage <= 8;
        let most = if columns || few_buffers { 3 } else { 2 };
        assert!(plan.steps().len() <= most, "{name}: {plan}");
    });
}

/// After running statistics dx needs no sums, so that memory is read once; a second dispatch at most merges partial results.
/// Where loads are masked, it also writes dx, and reads dy again.
#[test]
fn eval_reads_once() {
    for (name, profile) in known_gpus() {
        for ([n, c, h, w], dtype) in NETWORKS.into_iter().flat_map(|s| [(s, DType::F32), (s, DType::F16)]) {
            for (layout, shape) in [(LAYOUTS[0], [n, c, h, w]), (LAYOUTS[1], [n, h, w, c])] {
                let problem = Problem::new(&shape, layout).unwrap();
                let config = BatchNormConfig::new(c).layout(layout);
                let input = PlanInput::new(&problem, &config, Mode::Eval, &profile);
                let forward = Plan::forward(&input, &ForwardOptions::new().dtype(dtype)).unwrap();
                let backward = Plan::backward(&input, &BackwardOptions::new().dtype(dtype)).unwrap();
                assert!(forward.steps().len() == 1 && moves_least(&forward), "{name}: {forward}");
                let masked = layout == LAYOUTS[0] && !(h * w).is_multiple_of(4);
                assert!(
                    backward.steps().len() <= 2 && (masked || moves_least(&backward)),
                    "{name}: {backward}"
                );
            }
        }
    }
}

/// A large tensor keeps every processor of a large GPU busy.
#[test]
fn large_tensors_have_many_invocations() {
    const ENOUGH: u64 = 1 << 18;
    for_every_plan(|name, profile, plan, _| {
        if plan.problem().elements() <= 1 << 22 || profile.hardware.processors < 120 {
            return;
        }
        for step in plan.steps() {
            // A merge reads few bytes.
            let is_merge = matches!(step.kernel, Kernel::Finalize(_) | Kernel::BackwardFinalize(_));
            let workgroups = step.grid.iter().map(|size| u64::from(*size)).product::<u64>();
            let invocations = workgroups * u64::from(step.kernel.workgroup_size());
            assert!(is_merge || invocations >= ENOUGH, "{name}, {invocations} in {plan}");
        }
    });
}

fn moves_least(plan: &Plan) -> bool {
    plan.bytes_moved() == plan.floor_bytes()
}

/// One channel, row or column more, or the other layout, does not make a plan of another class.
#[test]
fn neighbours_cost_as_much() {
    let mut cliffs = Vec::new();
    for (name, profile) in known_gpus() {
        for sizes in NETWORKS {
            for (layout, direction) in
                LAYOUTS.into_iter().flat_map(|l| [(l, Direction::Forward), (l, Direction::Backward)])
            {
                let per_element = |sizes: [usize; 4], layout| {
                    let plan = plan(sizes, layout, DType::F32, direction, &profile);
                    (cost(&plan, &profile).seconds / plan.problem().elements() as f64, plan)
                };
                let (own, own_plan) = per_element(sizes, layout);
                let [n, c, h, w] = sizes;
                let other = LAYOUTS[usize::from(layout == LAYOUTS[0])];
                let neighbours = [
                    ([n, c + 1, h, w], layout),
                    ([n, c - 1, h, w], layout),
                    ([n, c, h + 1, w + 1], layout),
                    ([n + 1, c, h, w], layout),
                    (sizes, other),
                ];
                for (neighbour, its_layout) in neighbours {
                    let (its, plan) = per_element(neighbour, its_layout);
                    if its > 1.5 * own {
                        cliffs.push(format!("{name}, {:.2}: {own_plan}{plan}", its / own));
                    }
                }
            }
        }
    }
    assert!(cliffs.is_empty(), "{} cliffs:\n{}", cliffs.len(), cliffs.join("\n"));
}
