//! Tests the reference against results that can be worked out by hand: small cases, identities, finite differences.

use super::{BatchNorm, Gradients};
use crate::activation::Activation;
use crate::config::BatchNormConfig;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::state::BatchNormState;
use ndarray::{Array, Array1, Array2, ArrayD, Axis, Dimension, IxDyn, arr1, array};

/// Returns values in [−1, 1) that look random: scaled fractional parts of multiples of an irrational number.
fn scattered(shape: &[usize], salt: f64) -> ArrayD<f64> {
    let mut k = salt;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        k += 1.0;
        2.0 * (k * 0.618_033_988_749_894_9 * (1.0 + salt)).fract() - 1.0
    })
}

fn vector(length: usize, salt: f64) -> Array1<f32> {
    (0..length).map(|c| ((c as f64 + salt) * 0.754_877_666).fract() as f32 + 0.25).collect()
}

fn state(config: &BatchNormConfig) -> BatchNormState {
    let mut state = BatchNormState::new(config);
    for (k, v) in [&mut state.weight, &mut state.bias, &mut state.running_mean, &mut state.running_var]
        .into_iter()
        .enumerate()
    {
        if let Some(v) = v {
            *v = vector(config.num_features, k as f64 + 1.0);
        }
    }
    state
}

fn close<D: Dimension>(actual: &Array<f64, D>, exact: &Array<f64, D>, tolerance: f64) {
    assert_eq!(actual.shape(), exact.shape());
    for (a, e) in actual.iter().zip(exact) {
        assert!((a - e).abs() <= tolerance, "{a} is not {e}:\n{actual}\n{exact}");
    }
}

/// Returns loss(x, weight, bias) = Σ y·dy. Each call makes its own layer, so that no state carries over between calls.
fn loss(
    config: &BatchNormConfig,
    state: &BatchNormState,
    training: bool,
    x: &ArrayD<f64>,
    dy: &ArrayD<f64>,
    change: impl FnOnce(&mut BatchNorm),
) -> Result<f64> {
    let mut layer = BatchNorm::with_state(config.clone(), state)?;
    layer.training = training;
    change(&mut layer);
    Ok((layer.forward(x.view())? * dy).sum())
}

#[test]
fn gradients_are_the_finite_differences() -> Result<()> {
    let shapes: [(&[usize], Layout); 8] = [
        (&[5, 3], Layout::ChannelsFirst),
        (&[5, 3], Layout::ChannelsLast),
        (&[2, 3, 4], Layout::ChannelsFirst),
        (&[2, 4, 3], Layout::ChannelsLast),
        (&[2, 3, 2, 3], Layout::ChannelsFirst),
        (&[2, 3, 2, 5], Layout::ChannelsLast),
        (&[2, 2, 2, 1, 3], Layout::ChannelsFirst),
        (&[2, 1, 3, 2, 2], Layout::ChannelsLast),
    ];
    const H: f64 = 1e-5;
    for (shape, layout) in shapes {
        // An eps of 2 is larger than any variance here, so that a wrong use of it shows.
        const BOTH: (bool, bool) = (true, true);
        const NONE: (bool, bool) = (false, false);
        for (training, (weight, bias), track, eps) in [
            (true, BOTH, true, 0.01),
            (false, BOTH, true, 0.01),
            (true, NONE, true, 0.01),
            (false, NONE, true, 0.01),
            (true, (true, false), true, 0.01),
            (false, (true, false), true, 0.01),
            (true, (false, true), true, 0.01),
            (false, (false, true), true, 0.01),
            (false, BOTH, false, 0.01),
            (true, BOTH, true, 2.0),
            (false, BOTH, true, 2.0),
        ] {
            let channels = shape[layout.channel_axis(shape.len())];
            let config = BatchNormConfig::new(channels)
                .eps(eps)
                .layout(layout)
                .weight(weight)
                .bias(bias)
                .track_running_stats(track);
            let state = state(&config);
            let (mut x, dy) = (scattered(shape, 0.1), scattered(shape, 0.7));

            let mut layer = BatchNorm::with_state(config.clone(), &state)?;
            layer.training = training;
            layer.forward(x.view())?;
            let Gradients { dx, dweight, dbias, .. } = layer.backward(dy.view())?;

            let indices: Vec<_> = x.indexed_iter().map(|(index, _)| index).collect();
            for index in indices {
                let old = x[&index];
                x[&index] = old + H;
                let above = loss(&config, &state, training, &x, &dy, |_| ())?;
                x[&index] = old - H;
                let below = loss(&config, &state, training, &x, &dy, |_| ())?;
                x[&index] = old;
                let difference = (above - below) / (2.0 * H);
                assert!(
                    (dx[&index] - difference).abs() < 1e-7,
                    "{shape:?} {layout}, training {training}: {index:?}: {} is not {difference}",
                    dx[&index]
                );
            }
            assert_eq!((dweight.is_some(), dbias.is_some()), (weight, bias));
            for c in 0..channels {
                let nudged = |weight: f64, bias: f64| {
                    loss(&config, &state, training, &x, &dy, |layer| {
                        layer.weight.iter_mut().for_each(|vector| vector[c] += weight);
                        layer.bias.iter_mut().for_each(|vector| vector[c] += bias);
                    })
                };
                let by_weight = (nudged(H, 0.0)? - nudged(-H, 0.0)?) / (2.0 * H);
                let by_bias = (nudged(0.0, H)? - nudged(0.0, -H)?) / (2.0 * H);
                for (found, difference) in [(&dweight, by_weight), (&dbias, by_bias)] {
                    // A parameter that is not there changes nothing.
                    let found = found.as_ref().map_or(0.0, |found| found[c]);
                    assert!((found - difference).abs() < 1e-8, "{found} is not {difference}");
                }
            }
        }
    }
    Ok(())
}

/// Checks the gradients with respect to x, the residual and one weight, through an activation.
#[test]
fn gradients_through_activations_and_sums_are_the_finite_differences() -> Result<()> {
    const H: f64 = 1e-5;
    let activations = [
        Activation::Silu,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::LeakyRelu { slope: 0.1 },
        Activation::Relu6,
    ];
    for (activation, training) in activations.into_iter().flat_map(|a| [(a, true), (a, false)]) {
        let config = BatchNormConfig::new(3).eps(0.01).activation(activation);
        let state = state(&config);
        let shape = [4, 3, 5];
        let (x, residual, dy) = (scattered(&shape, 0.1), scattered(&shape, 0.4), scattered(&shape, 0.7));
        let loss = |x: &ArrayD<f64>, residual: &ArrayD<f64>, weight: f64| -> Result<f64> {
            let mut layer = BatchNorm::with_state(config.clone(), &state)?;
            layer.training = training;
            layer.weight.iter_mut().for_each(|vector| vector[1] += weight);
            Ok((layer.forward_add(x.view(), residual.view())? * &dy).sum())
        };
        let mut layer = BatchNorm::with_state(config.clone(), &state)?;
        layer.training = training;
        layer.forward_add(x.view(), residual.view())?;
        // No finite difference crosses a corner.
        let u = layer.before_activation().expect("there was a forward pass");
        assert!(u.iter().all(|u| u.abs() > 10.0 * H && (u - 6.0).abs() > 10.0 * H));
        let gradients = layer.backward(dy.view())?;
        let dresidual = gradients.dresidual.expect("something was added");
        for index in x.indexed_iter().map(|(index, _)| index) {
            let nudged = |tensor: &ArrayD<f64>, by: f64| {
                let mut tensor = tensor.clone();
                tensor[&index] += by;
                tensor
            };
            let by_x =
                (loss(&nudged(&x, H), &residual, 0.0)? - loss(&nudged(&x, -H), &residual, 0.0)?) / (2.0 * H);
            let by_residual =
                (loss(&x, &nudged(&residual, H), 0.0)? - loss(&x, &nudged(&residual, -H), 0.0)?) / (2.0 * H);
            for (found, difference) in [(gradients.dx[&index], by_x), (dresidual[&index], by_residual)] {
                let error = (found - difference).abs();
                assert!(error < 1e-8, "{activation}, training {training}: {found} is not {difference}");
            }
        }
        let by_weight = (loss(&x, &residual, H)? - loss(&x, &residual, -H)?) / (2.0 * H);
        let dweight = gradients.dweight.expect("the layer has a weight")[1];
        assert!((dweight - by_weight).abs() < 1e-8, "{activation}: {dweight} is not {by_weight}");
    }
    Ok(())
}

/// Channel 0 is 1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14, var 3.5, unbiased 14/3.
/// Channel 1 is 0, 0, 2, 2: mean 1, var 1, unbiased 4/3.
#[test]
fn a_case_worked_out_by_hand() -> Result<()> {
    let x = array![[1.0, 0.0], [2.0, 0.0], [3.0, 2.0], [6.0, 2.0]];
    let config = BatchNormConfig::new(2).eps(0.5).momentum(0.25);
    let mut state = BatchNormState::new(&config);
    state.weight = Some(arr1(&[2.0, 1.0]));
    state.bias = Some(arr1(&[0.0, -1.0]));
    state.running_mean = Some(arr1(&[1.0, 2.0]));
    state.running_var = Some(arr1(&[4.0, 0.0]));
    state.num_batches_tracked = Some(7);
    let mut layer = BatchNorm::with_state(config, &state)?;
    let y = layer.forward(x.view())?;

    // inv_std: 1/sqrt(3.5 + 0.5) = 1/2, and 1/sqrt(1.5).
    let q = 1.0 / 1.5f64.sqrt();
    close(&y, &array![[-2.0, -q - 1.0], [-1.0, -q - 1.0], [0.0, q - 1.0], [3.0, q - 1.0]], 1e-15);
    assert_eq!(layer.batch_mean(), Some(&arr1(&[3.0, 1.0])));
    assert_eq!(layer.batch_var(), Some(&arr1(&[3.5, 1.0])));
    assert_eq!(layer.running_mean(), Some(&arr1(&[0.75 * 1.0 + 0.25 * 3.0, 0.75 * 2.0 + 0.25 * 1.0])));
    let running_var = layer.running_var().ok_or(Error::NoForward)?;
    close(running_var, &arr1(&[0.75 * 4.0 + 0.25 * 14.0 / 3.0, 0.25 * 4.0 / 3.0]), 1e-15);
    assert_eq!(layer.num_batches_tracked(), Some(8));

    // dy is 1 for the first row only. Channel 0: x_hat = −1, −1/2, 0, 3/2, so Σdy = 1 and Σ(dy·x_hat) = −1;
    // dx = 2·(1/2)·(dy − 1/4 + x_hat/4).
    let dy = array![[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]];
    let gradients = layer.backward(dy.view())?;
    close(&gradients.dx, &array![[0.5, 0.0], [-0.375, 0.0], [-0.25, 0.0], [0.125, 0.0]], 1e-15);
    assert_eq!(gradients.dweight, Some(arr1(&[-1.0, 0.0])));
    assert_eq!(gradients.dbias, Some(arr1(&[1.0, 0.0])));
    Ok(())
}

#[test]
fn eval_uses_the_running_statistics_and_moves_nothing() -> Result<()> {
    let config = BatchNormConfig::new(2).eps(1.0);
    let mut state = BatchNormState::new(&config);
    state.running_mean = Some(arr1(&[1.0, -1.0]));
    state.running_var = Some(arr1(&[3.0, 0.0]));
    state.weight = Some(arr1(&[4.0, 1.0]));
    let mut layer = BatchNorm::with_state(config, &state)?;
    layer.eval();
    assert!(!layer.is_training());
    // One value per channel is enough here.
    let y = layer.forward(array![[3.0, 5.0]].view())?;
    assert_eq!(y, array![[4.0, 6.0]]);
    assert_eq!(layer.batch_mean(), None);
    assert_eq!(layer.running_mean(), Some(&arr1(&[1.0, -1.0])));
    assert_eq!(layer.running_var(), Some(&arr1(&[3.0, 0.0])));
    assert_eq!(layer.num_batches_tracked(), Some(0));
    let gradients = layer.backward(array![[10.0, 10.0]].view())?;
    assert_eq!(gradients.dx, array![[20.0, 10.0]]);
    assert_eq!(gradients.dweight, Some(arr1(&[10.0, 60.0])));
    Ok(())
}

#[test]
fn momentum_none_is_the_average_of_all_batches() -> Result<()> {
    let mut layer = BatchNorm::new(BatchNormConfig::new(1).momentum(None))?;
    for batch in [array![[0.0], [2.0]], array![[4.0], [8.0]], array![[1.0], [3.0]]] {
        layer.forward(batch.view())?;
    }
    // Means 1, 6, 2; unbiased variances 2, 8, 2.
    let mean = layer.running_mean().ok_or(Error::NoForward)?;
    let var = layer.running_var().ok_or(Error::NoForward)?;
    close(mean, &arr1(&[3.0]), 1e-14);
    close(var, &arr1(&[4.0]), 1e-14);
    assert_eq!(layer.num_batches_tracked(), Some(3));
    Ok(())
}

#[test]
fn every_momentum_weighs_the_batch() -> Result<()> {
    for (momentum, mean, var) in [(0.0, 0.0, 1.0), (1.0, 1.0, 2.0), (0.5, 0.5, 1.5), (-1.0, -1.0, 0.0)] {
        let mut layer = BatchNorm::new(BatchNormConfig::new(1).momentum(momentum))?;
        layer.forward(array![[0.0], [2.0]].view())?;
        assert_eq!(layer.running_mean(), Some(&arr1(&[mean])));
        assert_eq!(layer.running_var(), Some(&arr1(&[var])));
    }
    Ok(())
}

#[test]
fn y_has_mean_0_and_variance_var_over_var_plus_eps() -> Result<()> {
    let config = BatchNormConfig::new(3).affine(false).eps(0.1);
    let mut layer = BatchNorm::new(config)?;
    let x = scattered(&[6, 3, 5, 7], 0.3) * 3.0 + 100.0;
    let y = layer.forward(x.view())?;
    let var = layer.batch_var().ok_or(Error::NoForward)?;
    for (c, channel) in y.axis_iter(Axis(1)).enumerate() {
        assert!(channel.mean().is_some_and(|mean| mean.abs() < 1e-13));
        assert!((channel.var(0.0) - var[c] / (var[c] + 0.1)).abs() < 1e-13);
    }
    // Mathematically, dx is orthogonal to 1 (Σdx = 0), and to x_hat except for the effect of eps. This checks Σdx.
    let gradients = layer.backward(scattered(&[6, 3, 5, 7], 0.9).view())?;
    for channel in gradients.dx.axis_iter(Axis(1)) {
        assert!(channel.sum().abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn both_layouts_give_the_same_numbers() -> Result<()> {
    let first = BatchNormConfig::new(3);
    let last = first.clone().layout(Layout::ChannelsLast);
    let state = state(&first);
    let (mut a, mut b) = (BatchNorm::with_state(first, &state)?, BatchNorm::with_state(last, &state)?);
    let (x, dy) = (scattered(&[2, 3, 4, 5], 0.2), scattered(&[2, 3, 4, 5], 0.6));
    let to_last = |v: ArrayD<f64>| v.permuted_axes(IxDyn(&[0, 2, 3, 1]));
    let y = a.forward(x.view())?;
    let y_last = b.forward(to_last(x).as_standard_layout().view())?;
    close(&to_last(y), &y_last, 1e-15);
    let dx = a.backward(dy.view())?.dx;
    // A strided view gives the same result as a contiguous one.
    close(&to_last(dx), &b.backward(to_last(dy).view())?.dx, 1e-14);
    Ok(())
}

#[test]
fn without_tracking_eval_uses_the_batch() -> Result<()> {
    let config = BatchNormConfig::new(2).track_running_stats(false);
    let mut layer = BatchNorm::new(config)?;
    let x = scattered(&[4, 2, 3], 0.5);
    let y = layer.forward(x.view())?;
    layer.eval();
    assert_eq!(layer.forward(x.view())?, y);
    assert!(layer.batch_mean().is_some());
    assert_eq!((layer.running_mean(), layer.running_var(), layer.num_batches_tracked()), (None, None, None));
    Ok(())
}

#[test]
fn an_empty_batch_is_counted_and_moves_nothing() -> Result<()> {
    for (shape, track) in [([0, 5, 9], true), ([3, 5, 0], true), ([0, 5, 9], false)] {
        let mut layer = BatchNorm::new(BatchNormConfig::new(5).momentum(1.0).track_running_stats(track))?;
        let empty = Array::<f64, _>::zeros(shape);
        assert_eq!(layer.forward(empty.view())?.shape(), shape);
        assert_eq!(layer.batch_mean(), None);
        let gradients = layer.backward(empty.view())?;
        assert_eq!(gradients.dx.shape(), shape);
        assert_eq!(gradients.dweight, Some(Array1::zeros(5)));
        assert_eq!(gradients.dbias, Some(Array1::zeros(5)));
        assert_eq!(layer.running_mean(), track.then(|| Array1::zeros(5)).as_ref());
        assert_eq!(layer.running_var(), track.then(|| Array1::ones(5)).as_ref());
        assert_eq!(layer.num_batches_tracked(), track.then_some(1));
    }
    Ok(())
}

#[test]
fn what_is_not_finite_stays_in_its_channel() -> Result<()> {
    let x = array![[f64::NAN, f64::INFINITY, 1.0], [0.0, 0.0, 3.0]];
    let mut layer = BatchNorm::new(BatchNormConfig::new(3))?;
    let y = layer.forward(x.view())?;
    assert!(y.column(0).iter().all(|y| y.is_nan()) && y.column(1).iter().all(|y| y.is_nan()));
    assert!(y.column(2).iter().all(|y| y.is_finite()));
    let (mean, var) = (layer.running_mean().cloned(), layer.running_var().cloned());
    let (mean, var) = (mean.ok_or(Error::NoForward)?, var.ok_or(Error::NoForward)?);
    assert!(mean[0].is_nan() && mean[1] == f64::INFINITY && var[0].is_nan() && var[1].is_nan());
    close(&arr1(&[mean[2], var[2]]), &arr1(&[0.2, 1.1]), 1e-15);

    let mut layer = BatchNorm::new(BatchNormConfig::new(3).skip_non_finite(true))?;
    layer.forward(x.view())?;
    assert_eq!(layer.running_mean(), Some(&arr1(&[0.0, 0.0, mean[2]])));
    assert_eq!(layer.running_var(), Some(&arr1(&[1.0, 1.0, var[2]])));
    Ok(())
}

#[test]
fn errors_leave_the_layer_as_it_was() -> Result<()> {
    let mut layer = BatchNorm::new(BatchNormConfig::new(3))?;
    assert!(matches!(layer.backward(Array2::zeros((2, 3)).view()), Err(Error::NoForward)));
    let x = scattered(&[4, 3], 0.4);
    let y = layer.clone().forward(x.view())?;

    let mut rejects = |shape: &[usize], expected: fn(&Error) -> bool| {
        let error = layer.forward(ArrayD::zeros(IxDyn(shape)).view()).err();
        assert!(error.as_ref().is_some_and(expected), "{shape:?}: {error:?}");
        assert_eq!(layer.num_batches_tracked(), Some(0));
    };
    rejects(&[3], |error| matches!(error, Error::Rank { rank: 1, .. }));
    rejects(&[1, 3, 1, 1, 1, 1], |error| matches!(error, Error::Rank { rank: 6, .. }));
    rejects(&[4, 5], |error| matches!(error, Error::Channels { num_features: 3, channels: 5, axis: 1, .. }));
    rejects(&[4, 0], |error| matches!(error, Error::NoChannels { .. }));
    rejects(&[1, 3], |error| matches!(error, Error::OneValuePerChannel { shape } if *shape == [1, 3]));
    rejects(&[1, 3, 1, 1], |error| matches!(error, Error::OneValuePerChannel { .. }));

    assert_eq!(layer.forward(x.view())?, y);
    assert!(matches!(
        layer.backward(Array2::zeros((3, 3)).view()),
        Err(Error::ShapeMismatch { name: "dy", ref expected, .. }) if *expected == [4, 3]
    ));
    // The error kept the results that forward saved.
    layer.backward(y.view())?;
    assert!(matches!(BatchNorm::new(BatchNormConfig::new(0)), Err(Error::InvalidConfig { .. })));
    Ok(())
}

/// What is beyond f32's range goes on as infinity, and is itself returned in f64.
#[test]
fn what_f32_cannot_hold_goes_on_as_infinity() -> Result<()> {
    let outputs = |activation: Activation| -> Result<Array2<f64>> {
        let config = BatchNormConfig::new(1).eps(0.0).activation(activation);
        let mut state = BatchNormState::new(&config);
        state.weight = Some(arr1(&[3e38]));
        let mut layer = BatchNorm::with_state(config, &state)?;
        layer.eval();
        layer.forward(array![[2.0], [-2.0], [1.0], [-1.0]].view())
    };
    let large = f64::from(3e38f32);
    let minus = f64::NEG_INFINITY;
    assert_eq!(outputs(Activation::Identity)?, array![[2.0 * large], [-2.0 * large], [large], [-large]]);
    assert_eq!(outputs(Activation::Relu)?, array![[2.0 * large], [0.0], [large], [0.0]]);
    let leaky = Activation::LeakyRelu { slope: 0.5 };
    assert_eq!(outputs(leaky)?, array![[2.0 * large], [minus], [large], [-0.5 * large]]);
    let silu = outputs(Activation::Silu)?;
    assert!(silu[[1, 0]].is_nan() && silu[[3, 0]] == 0.0, "{silu}");

    // −1e20 and 1e20: the variance is 1e40, and the running one 2e40.
    let mut layer = BatchNorm::new(BatchNormConfig::new(1).momentum(1.0))?;
    let y = layer.forward(array![[-1e20], [1e20]].view())?;
    assert_eq!(y, array![[-1.0], [1.0]]);
    assert_eq!((layer.batch_var(), layer.running_var()), (Some(&arr1(&[1e40])), Some(&arr1(&[2e40]))));
    Ok(())
}

#[test]
fn eps_and_a_negative_variance_add_up_in_f32() -> Result<()> {
    let run = |var: f32| -> Result<_> {
        let config = BatchNormConfig::new(1);
        let mut state = BatchNormState::new(&config);
        state.running_var = Some(arr1(&[var]));
        let mut layer = BatchNorm::with_state(config, &state)?;
        layer.eval();
        let y = layer.forward(array![[1.0], [-2.0]].view())?;
        let dweight = layer.backward(array![[1.0], [-1.0]].view())?.dweight;
        Ok((y[[0, 0]], y[[1, 0]], dweight.ok_or(Error::NoForward)?[0]))
    };
    let infinity = f64::INFINITY;
    assert_eq!(run(-1e-5)?, (infinity, -infinity, infinity));
    assert!(run(-2e-5)?.0.is_nan());
    let sum = f64::from(-9.9e-6f32 + 1e-5f32);
    assert_eq!(run(-9.9e-6)?.0, 1.0 / sum.sqrt());
    assert_eq!(run(1.0)?.0, 1.0 / 1.000_01f64.sqrt());
    Ok(())
}
