//! Random shapes, layouts and options: the GPU against the reference, and properties that every output must have.

use crate::support::{gpu, runner};
use proptest::prelude::*;
use wgpu_batchnorm::verify::{Case, check, compare_scaled};
use wgpu_batchnorm::{BatchNorm, BatchNormConfig, DType, Layout};

/// Returns shapes of 2 to 5 dimensions with 2 to 39,999 elements.
fn shapes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![Just(1usize), 2..10usize, 10..70usize];
    prop::collection::vec(size, 2..=5)
        .prop_filter("of middling size", |shape| (2..40_000).contains(&shape.iter().product::<usize>()))
}

fn cases() -> impl Strategy<Value = Case> {
    let options = (
        prop::bool::ANY,
        [prop::bool::ANY; 2],
        prop::bool::ANY,
        prop_oneof![Just(None), (-0.5..1.5f64).prop_map(Some)],
        prop_oneof![Just(1e-5), Just(1e-3), 1e-8..0.5f64],
        prop_oneof![Just(Layout::ChannelsFirst), Just(Layout::ChannelsLast)],
    );
    let data = (
        1..=3usize,
        prop_oneof![Just(0.0), -1e4..1e4f64],
        prop_oneof![Just(1.0), 1e-2..1e3f64],
        any::<u64>(),
    );
    (shapes(), options, data)
        .prop_map(|(shape, (training, [weight, bias], track, momentum, eps, layout), data)| {
            let (steps, mean, std, seed) = data;
            let channels = shape[layout.channel_axis(shape.len())];
            let config = BatchNormConfig::new(channels)
                .eps(eps)
                .momentum(momentum)
                .weight(weight)
                .bias(bias)
                .track_running_stats(track)
                .layout(layout);
            // Beyond a mean of 1e4 deviations, rounding x to f32 changes the data itself.
            let mean = mean * std.min(1.0);
            Case {
                name: "random".to_owned(),
                shape,
                config,
                training,
                dtype: DType::F32,
                residual: false,
                steps,
                mean,
                std,
                poison: None,
                seed,
            }
        })
        .prop_filter("more than one value per channel", |case| {
            case.shape.iter().product::<usize>() > case.config.num_features
        })
}

#[test]
fn the_gpu_agrees_with_the_reference() {
    runner(200)
        .run(&cases(), |case| {
            let report = check(&case, gpu()).unwrap();
            prop_assert!(report.passed(), "{report}");
            Ok(())
        })
        .unwrap();
}

#[test]
fn scale_and_shift_of_x_do_not_change_y() {
    let factors = (prop_oneof![0.1..10f32, -10f32..-0.1], -10f32..10.0);
    runner(40)
        .run(&(cases(), factors), |(mut case, (factor, shift))| {
            (case.mean, case.std) = (0.0, 1.0);
            let inputs = case.inputs();
            // With batch statistics and without affine, scale and shift of x change y only by the sign of the
            // factor, and by eps, which does not scale with x.
            let config = case.config.clone().affine(false).track_running_stats(false).eps(1e-12);
            let mut bn = BatchNorm::new(gpu(), config).unwrap();
            let x = &inputs.xs[0];
            let y = bn.forward_array(x.view()).unwrap();
            let moved = x.mapv(|value| factor * value + shift);
            let y_of_moved = bn.forward_array(moved.view()).unwrap();
            let wanted = y.mapv(|value| f64::from(value) * f64::from(factor.signum()));
            // x itself is rounded after it was moved, by 2^-24 of at most |shift| + |factor · x|. In units of the
            // channel's deviation, this grows if few values lie close together.
            let stats = bn.batch_statistics().unwrap().unwrap();
            let largest = moved.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            let inv_std = stats.inv_std.iter().fold(0f32, |largest, value| largest.max(*value));
            let rounding = f64::from(largest * inv_std) * 4.0 * 2f64.powi(-24);
            let scale = wanted.iter().fold(1f64, |largest, value| largest.max(value.abs()));
            compare_scaled("y", y_of_moved.view(), wanted.view(), 1.0, (1e-6 + rounding) * scale).unwrap();
            Ok(())
        })
        .unwrap();
}
