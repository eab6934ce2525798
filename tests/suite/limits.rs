//! Devices with the limits that a program gets from wgpu unless it asks for more.

use crate::recorded::Recorded;
use crate::support::gpu;
use wgpu_batchnorm::internals::tests_are_exhaustive;
use wgpu_batchnorm::verify::{Case, Implementation, check, table};
use wgpu_batchnorm::{Activation, BackwardOptions, Error, ForwardOptions, Gpu, Plan, PlanInput, wgpu};

/// Opens a device of the tests' adapter with exactly these limits, and no features.
fn gpu_with(limits: &wgpu::Limits) -> Gpu {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let adapter =
        adapters.into_iter().find(|adapter| adapter.get_info().name == gpu().profile().name).unwrap();
    let descriptor = wgpu::DeviceDescriptor { required_limits: limits.clone(), ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    let gpu = Gpu::from_wgpu(&device, &queue);
    let buffers = gpu.profile().limits.max_storage_buffers_per_shader_stage;
    assert_eq!(buffers, limits.max_storage_buffers_per_shader_stage);
    gpu
}

/// Checks whether backward needs more than eight buffers in one dispatch.
fn is_large(case: &Case) -> bool {
    case.residual && case.config.activation != Activation::Identity
}

/// Returns the table, or some of the cases that need most buffers and of the others.
fn cases() -> Vec<Case> {
    let (large, others): (Vec<_>, Vec<_>) = table().into_iter().partition(is_large);
    let (of_large, of_others) = if tests_are_exhaustive() { (1, 1) } else { (3, 12) };
    large.into_iter().step_by(of_large).chain(others.into_iter().step_by(of_others)).collect()
}

#[test]
fn everything_works_with_the_default_limits() {
    let gpu = gpu_with(&wgpu::Limits::default());
    let mut failures = Vec::new();
    for case in cases() {
        let report = check(&case, &gpu).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        if !report.passed() {
            failures.push(report.to_string());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// In place, one dispatch binds eight buffers and writes dx and dresidual. With separate buffers, there are two
/// dispatches.
#[test]
fn two_dispatches_write_the_bits_of_one() {
    let gpu = gpu_with(&wgpu::Limits::default());
    let ways = [Recorded::new(&gpu).in_place(), Recorded::new(&gpu)];
    let (mut compared, mut longer) = (0, 0);
    for case in cases().into_iter().filter(is_large) {
        let [in_place, separate] = ways.each_ref().map(|way| way.plans(&case).unwrap()[1].steps().len());
        let inputs = case.inputs();
        let [in_place_steps, separate_steps] =
            ways.each_ref().map(|way| way.run(&case, &inputs).unwrap().steps);
        // One dispatch for the sums, too, merges them in another order.
        if in_place == 1 {
            continue;
        }
        compared += 1;
        longer += usize::from(separate > in_place);
        for (one, two) in in_place_steps.iter().zip(&separate_steps) {
            let (one, two) = (one.gradients.as_ref().unwrap(), two.gradients.as_ref().unwrap());
            let bits = |array: &ndarray::ArrayD<f64>| {
                array
                    .iter()
                    .map(|value| if value.is_nan() { f64::NAN } else { *value }.to_bits())
                    .collect::<Vec<_>>()
            };
            assert_eq!(bits(&one.dx), bits(&two.dx), "{}", case.name);
            assert_eq!(one.dresidual.as_ref().map(bits), two.dresidual.as_ref().map(bits), "{}", case.name);
        }
    }
    assert!(compared > 5 && longer > 3, "{compared} cases, {longer} with a dispatch more");
}

/// With four buffers, some passes work. The others are refused with both numbers before anything is recorded.
#[test]
fn four_buffers_do_what_they_can() {
    let gpu = gpu_with(&wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wgpu::Limits::default() });
    let is_refused = |error: &Error| {
        let named = |limit: &str| limit == "max_storage_buffers_per_shader_stage";
        matches!(error, Error::Limit { limit, needed: 5..=9, available: 4 } if named(limit))
    };
    let mut planned = [0, 0];
    for case in table() {
        let problem = case.config.problem(&case.shape, case.config.layout, case.training.into()).unwrap();
        let input = PlanInput::new(&problem, &case.config, case.training.into(), gpu.profile());
        let forward = ForwardOptions::new().in_place(true).residual(case.residual).dtype(case.dtype);
        let backward = BackwardOptions::new().in_place(true).residual(case.residual).dtype(case.dtype);
        let plans = [Plan::forward(&input, &forward), Plan::backward(&input, &backward)];
        for (plan, planned) in plans.into_iter().zip(&mut planned) {
            match plan {
                Ok(plan) => {
                    assert!(plan.steps().iter().all(|step| step.kernel.storage_buffers() <= 4), "{plan}");
                    *planned += 1;
                }
                Err(error) => assert!(is_refused(&error), "{}: {error}", case.name),
            }
        }
    }
    let mut right = 0;
    for case in cases() {
        match check(&case, &gpu) {
            Ok(report) => {
                assert!(report.passed(), "{report}");
                right += 1;
            }
            Err(error) => assert!(is_refused(&error), "{}: {error}", case.name),
        }
    }
    println!("planned in place: {planned:?} of {}; {right} cases right, forward and backward", table().len());
    assert!(planned.iter().all(|planned| *planned > 10) && right > 0, "{planned:?}, {right} right");
}
