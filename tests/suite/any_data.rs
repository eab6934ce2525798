//! Data of every kind, on every path: outliers, heavy tails, numbers near the ends of f32.

use crate::support::{changed, gpu, gpu_without_subgroups};
use wgpu_batchnorm::internals::tests_are_exhaustive;
use wgpu_batchnorm::ndarray::{ArrayD, Axis};
use wgpu_batchnorm::verify::{Case, Implementation, Inputs, Random, Reference, judge, table};
use wgpu_batchnorm::{Activation, Gpu, Layout};

/// A kind of data: the value of the k-th of n elements of a channel, in the order of memory.
type Kind = fn(usize, usize, &mut Random) -> f64;

/// What networks may meet.
const USUAL: [(&str, Kind); 8] = [
    ("Gaussian", |_, _, random| random.normal()),
    ("uniform", |_, _, random| random.uniform()),
    ("ramp", |k, n, _| k as f64 / n as f64),
    ("log-normal", |_, _, random| (3.0 * random.normal()).exp()),
    ("outlier first", |k, _, random| if k == 0 { 1e6 } else { random.normal() }),
    ("outlier last", |k, n, random| if k + 1 == n { 1e6 } else { random.normal() }),
    ("two levels", |_, _, random| if random.uniform() < 0.5 { 1e6 } else { -1e6 }),
    ("constant", |_, _, _| 3.25),
];

/// What leaves f32 when it is squared, or when two are subtracted.
const LARGE: [(&str, Kind); 8] = [
    ("one of 1e30", |k, n, random| if k == n / 3 { 1e30 } else { random.normal() }),
    ("±1.3e19", |_, _, random| if random.uniform() < 0.5 { 1.3e19 } else { -1.3e19 }),
    ("1e25", |_, _, random| 1e25 * random.normal()),
    ("1e20 as bf16", |k, _, random| if k % 7 == 3 { 1.0027e20 } else { random.normal() }),
    ("lowest f32", |k, n, random| if k == n / 2 { f64::from(f32::MIN) } else { random.normal() }),
    ("both ends of f32", |k, n, random| {
        if k == n / 2 {
            f64::from(f32::MIN)
        } else if k == 1 {
            f64::from(f32::MAX)
        } else {
            random.normal()
        }
    }),
    // With larger deviations, 1 / σ is below f32's normal range.
    ("up to 1.1e38", |_, _, random| 2.2e38 * (random.uniform() - 0.5)),
    ("±8e37", |_, _, random| if random.uniform() < 0.5 { 8e37 } else { -8e37 }),
];

/// Shapes that are planned in every way: split and whole, resident and read twice, masked, in columns.
fn shapes() -> [(&'static [usize], Layout); 10] {
    use Layout::{ChannelsFirst, ChannelsLast};
    [
        (&[16, 3, 25, 25], ChannelsFirst),
        (&[16, 3, 24, 24], ChannelsFirst),
        (&[4, 2, 200, 200], ChannelsFirst),
        (&[8, 40, 32, 32], ChannelsFirst),
        (&[2, 140, 32, 32], ChannelsFirst),
        (&[600, 5, 3, 3], ChannelsFirst),
        (&[4, 50, 50, 3], ChannelsLast),
        (&[4, 50, 50, 64], ChannelsLast),
        (&[2000, 8], ChannelsFirst),
        (&[40, 7], ChannelsFirst),
    ]
}

/// Returns a training step with these data in every channel.
fn step(about: &str, kind: Kind, shape: &[usize], layout: Layout) -> (Case, Inputs) {
    let channels = shape[layout.channel_axis(shape.len())];
    let case = changed(table().remove(0), |case: &mut Case| {
        case.name = format!("{about} {shape:?}");
        case.shape = shape.to_vec();
        case.config = wgpu_batchnorm::BatchNormConfig::new(channels).layout(layout);
        (case.training, case.steps, case.residual, case.poison) = (true, 1, false, None);
    });
    let mut inputs = case.inputs();
    let mut random = Random::new(7);
    let x: &mut ArrayD<f32> = &mut inputs.xs[0];
    let axis = Axis(layout.channel_axis(shape.len()));
    for mut channel in x.axis_iter_mut(axis) {
        let n = channel.len();
        for (k, value) in channel.iter_mut().enumerate() {
            *value = kind(k, n, &mut random) as f32;
        }
    }
    (case, inputs)
}

const WAYS: [fn() -> &'static Gpu; 2] = [gpu, gpu_without_subgroups];

/// Checks a step with every kind of plan, every other one without subgroups. If all is asked for, checks every plan with
/// and without.
fn check_all(kinds: &[(&str, Kind)], prepare: impl Fn(&mut Case, &mut Inputs)) {
    let mut failures = Vec::new();
    for (about, kind) in kinds {
        for (number, (shape, layout)) in shapes().into_iter().enumerate() {
            let (mut case, mut inputs) = step(about, *kind, shape, layout);
            prepare(&mut case, &mut inputs);
            let exact = Reference.run(&case, &inputs).unwrap();
            for (way, gpu) in WAYS.into_iter().enumerate() {
                if !tests_are_exhaustive() && number % 2 != way {
                    continue;
                }
                let report = judge(&case, &gpu().run(&case, &inputs).unwrap(), &exact);
                if !report.passed() {
                    failures.push(report.to_string());
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn usual_data_are_right_to_a_millionth() {
    check_all(&USUAL, |_, _| {});
}

#[test]
fn large_data_are_right_where_the_result_fits() {
    check_all(&LARGE, |_, inputs| {
        // Drivers may flush what is below f32's normal range to 0. With these, neither dx nor weight · inv_std is.
        inputs.dys[0].mapv_inplace(|dy| dy * 1e7);
        let weight = inputs.state.weight.as_mut().unwrap();
        weight.mapv_inplace(|weight| weight.abs() + 1.0);
    });
}

/// Sums of large gradients leave f32, while their mean fits.
#[test]
fn large_gradients_have_no_nan() {
    check_all(&USUAL[..1], |_, inputs| {
        inputs.dys[0].mapv_inplace(|dy| dy * 3e37);
    });
    check_all(&LARGE[..2], |case, inputs| {
        case.config = case.config.clone().activation(Activation::Relu);
        inputs.dys[0].mapv_inplace(|dy| dy * 1e30);
    });
}
