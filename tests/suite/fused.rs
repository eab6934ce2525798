//! Activations and sums fused into the pass over memory: each function over a dense grid, gradients by finite
//! differences, the ways to call them, and their effect on plans.

use crate::support::{changed, gpu};
use ndarray::{Array1, Array2, ArrayD, Axis, IxDyn};
use wgpu_batchnorm::verify::{Case, Reference, TOLERANCE, check, compare, compare_scaled};
use wgpu_batchnorm::{
    Activation, AdapterProfile, BackwardOptions, BatchNorm, BatchNormConfig, BatchNormState, DType, Error,
    ForwardOptions, GradientMask, GradientWrite, Gradients, Layout, Mode, Plan, PlanInput, Problem, Tensor,
    wgpu,
};

/// Returns all activations, the leaky one with a slope that f32 holds exactly.
fn activations() -> [Activation; 9] {
    Activation::ALL.map(|activation| match activation {
        Activation::LeakyRelu { .. } => Activation::LeakyRelu { slope: 0.125 },
        other => other,
    })
}

/// Returns a layer that only applies its activation: running mean 0, variance 1 and eps 0.
fn transparent(activation: Activation) -> BatchNorm {
    let config = BatchNormConfig::new(1).eps(0.0).affine(false).activation(activation);
    let mut layer = BatchNorm::new(gpu(), config).unwrap();
    layer.eval();
    layer
}

/// Returns numbers from −30 to 30 in steps of 1/2048, and sparser ones from −110 to 110. Adds numbers near 0 and
/// the corner at 6, the largest and the smallest, infinities and NaN.
fn grid() -> Vec<f32> {
    let mut values: Vec<f32> = (-61_440..=61_440).map(|k| k as f32 / 2048.0).collect();
    values.extend((-440..=440).map(|k| k as f32 / 4.0));
    for exponent in [-126, -100, -60, -30, -20, -14, 20, 60, 100, 126] {
        let power = 2f32.powi(exponent) * 1.25;
        values.extend([power, -power]);
    }
    values.extend([f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, -0.0]);
    values.extend([6f32.next_down(), 6f32.next_up()]);
    values
}

/// Returns the largest error allowed. Functions that only choose may have none. Others are computed to about two
/// units in the last place of their largest factor. GELU multiplies by one more value, and its rounding error grows
/// with that.
fn allowed(activation: Activation, u: f64, exact: f64) -> f64 {
    let unit = f64::from(f32::EPSILON);
    match activation {
        Activation::Identity | Activation::Relu | Activation::Relu6 => 0.0,
        // A device may flush numbers below 2^-126 to 0.
        Activation::LeakyRelu { .. } => f64::from(f32::MIN_POSITIVE),
        // From −87 downwards, the device's exponential is 0, and the exact one is below 2e-38.
        Activation::Silu | Activation::Sigmoid | Activation::Tanh => {
            3.0 * unit * exact.abs() + 2e-38 * u.abs().max(1.0)
        }
        Activation::Gelu | Activation::GeluTanh => {
            3.0 * unit * u.abs().min(8.0) + 3.0 * unit * exact.abs() + f64::from(f32::MIN_POSITIVE)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn values_and_derivatives_over_a_dense_grid() {
    let grid = grid();
    let x = Array2::from_shape_vec((grid.len(), 1), grid.clone()).unwrap();
    for activation in activations() {
        let mut layer = transparent(activation);
        let y = layer.forward_array(x.view()).unwrap();
        let derivative = layer.backward_array(Array2::ones(x.raw_dim()).view()).unwrap().input;
        let in_place = Tensor::from_array(gpu(), x.view()).unwrap();
        layer.forward_in_place(&in_place).unwrap();
        assert!(in_place.to_array().unwrap().iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits()));
        let (mut worst, mut worst_derivative) = ((0.0, 0.0), (0.0, 0.0));
        for ((&u, &y), &derivative) in grid.iter().zip(&y).zip(&derivative) {
            let u = f64::from(u);
            let check = |found: f32, exact: f64, allowed: f64, worst: &mut (f64, f64)| {
                let found = f64::from(found);
                if exact.is_finite() && u.is_finite() {
                    let error = (found - exact).abs();
                    assert!(
                        error <= allowed,
                        "{activation} at {u}: {found:e}, exact is {exact:e}: {error:e}"
                    );
                    if error > worst.0 {
                        *worst = (error, u);
                    }
                } else if exact.is_finite() {
                    assert!((found - exact).abs() <= allowed, "{activation} at {u}: {found}, not {exact}");
                } else {
                    let same = found == exact || (found.is_nan() && exact.is_nan());
                    assert!(same, "{activation} at {u}: {found}, not {exact}");
                }
            };
            let exact = activation.value(u);
            // Rounding to f32 does not count as an error, even if it overflows.
            let exact = if u.is_finite() { f64::from(exact as f32) } else { exact };
            check(y, exact, allowed(activation, u, exact), &mut worst);
            let exact = activation.derivative(u);
            // Derivatives of SiLU and both GELUs are sums of terms up to 1. For large |u|, a term is u times almost
            // 0.
            let allowed = match activation {
                Activation::Silu | Activation::Gelu | Activation::GeluTanh => 1e-6,
                _ => allowed(activation, u, exact),
            };
            let beyond = u.abs() > 1e15 && u.is_finite();
            if !beyond {
                check(
                    derivative,
                    exact,
                    allowed.max(f64::from(f32::EPSILON) * exact.abs() / 2.0),
                    &mut worst_derivative,
                );
            }
        }
        println!("{activation}: value off by {worst:?}, derivative by {worst_derivative:?}");
    }
}

/// NaN stays NaN, and the gradient that goes through is the one of [`Activation::backward`]: PyTorch's.
#[test]
fn nan_is_treated_as_in_pytorch() {
    let odd = [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)];
    for activation in activations() {
        // Loads of four, of one, and in columns.
        for shape in [[1, 1, 64], [1, 1, 35], [35, 1, 1]] {
            let mut layer = transparent(activation);
            let size = shape.iter().product();
            let x: Vec<f32> = odd.into_iter().chain([-2.0, 1.0]).cycle().take(size).collect();
            let x = ArrayD::from_shape_vec(IxDyn(&shape), x).unwrap();
            let y = layer.forward_array(x.view()).unwrap();
            let dx = layer.backward_array(ArrayD::from_elem(IxDyn(&shape), 3.0).view()).unwrap().input;
            for ((&u, y), &dx) in x.iter().zip(&y).zip(&dx).filter(|((u, _), _)| u.is_nan()) {
                assert!(y.is_nan(), "{activation}: {y}");
                let exact = activation.backward(3.0, u.into()) as f32;
                let same = dx == exact || (dx.is_nan() && exact.is_nan());
                assert!(same, "{activation} at {:x}: {dx}, not {exact}", u.to_bits());
            }
        }
    }
}

/// Compares with (−f(u + 2h) + 8 f(u + h) − 8 f(u − h) + f(u − 2h)) / 12h, all of it on the GPU.
#[test]
fn derivatives_are_finite_differences() {
    const H: f32 = 1.0 / 16.0;
    let points: Vec<f32> = (-96..=160).map(|k| k as f32 / 16.0 + 0.01).collect();
    let shifted = |by: f32| Array2::from_shape_fn((points.len(), 1), |(k, _)| points[k] + by);
    for activation in activations() {
        let mut layer = transparent(activation);
        let [above, far_above, below, far_below] =
            [H, 2.0 * H, -H, -2.0 * H].map(|by| layer.forward_array(shifted(by).view()).unwrap());
        layer.forward_array(shifted(0.0).view()).unwrap();
        let derivative = layer.backward_array(Array2::<f32>::ones((points.len(), 1)).view()).unwrap().input;
        for (k, &u) in points.iter().enumerate() {
            let has_corners =
                matches!(activation, Activation::Relu | Activation::LeakyRelu { .. } | Activation::Relu6);
            if has_corners && [0.0, 6.0].iter().any(|corner| (u - corner).abs() <= 2.0 * H) {
                continue;
            }
            let [above, far_above, below, far_below] =
                [&above, &far_above, &below, &far_below].map(|y| f64::from(y[[k, 0]]));
            let difference = (8.0 * (above - below) - far_above + far_below) / (12.0 * f64::from(H));
            let derivative = f64::from(derivative[[k, 0]]);
            // Allows h⁴/30 of a fifth derivative up to 16, and rounding errors of the values, weighted by 18 / 12h
            // in total.
            let allowed = 1e-5 + 5e-6 * f64::from(u.abs());
            assert!(
                (difference - derivative).abs() < allowed,
                "{activation} at {u}: {derivative}, not {difference}"
            );
        }
    }
}

/// A gradient that does not pass the activation is 0, and not 0 times its value.
#[test]
fn infinite_gradients_do_not_go_through_either() {
    for activation in [Activation::Relu, Activation::Relu6] {
        let mut layer = transparent(activation);
        let x = Array2::from_shape_vec((4, 1), vec![-1.0f32, 0.0, 2.0, 1.0]).unwrap();
        layer.forward_array(x.view()).unwrap();
        let dy = Array2::from_shape_vec((4, 1), vec![f32::INFINITY, f32::NAN, 3.0, -1.0]).unwrap();
        let dx = layer.backward_array(dy.view()).unwrap().input;
        assert_eq!(dx.into_raw_vec_and_offset().0, [0.0, 0.0, 3.0, -1.0]);
    }
}

/// x, residual and dy, and the layer's state.
struct Inputs {
    config: BatchNormConfig,
    state: BatchNormState,
    tensors: [ArrayD<f32>; 3],
}

fn inputs(activation: Activation, training: bool) -> (Case, Inputs) {
    let config = BatchNormConfig::new(6).activation(activation);
    let shape = [4, 6, 5, 7];
    let mut case = crate::gradients::case(&shape, Layout::ChannelsFirst, 11);
    (case.config, case.residual, case.training) = (config.clone(), true, training);
    let inputs = case.inputs();
    let tensors = [&inputs.xs[0], &inputs.residuals[0], &inputs.dys[0]].map(Clone::clone);
    (case, Inputs { config, state: inputs.state, tensors })
}

/// Returns the layer of these inputs, with x, residual and dy on the GPU.
fn uploaded(inputs: &Inputs, training: bool) -> (BatchNorm, [Tensor; 3]) {
    let mut layer = BatchNorm::with_state(gpu(), inputs.config.clone(), &inputs.state).unwrap();
    if !training {
        layer.eval();
    }
    (layer, inputs.tensors.each_ref().map(|array| Tensor::from_array(gpu(), array.view()).unwrap()))
}

fn exact(tensor: &Tensor) -> ArrayD<f64> {
    tensor.to_array().unwrap().mapv(f64::from)
}

#[test]
fn every_way_to_call_gives_the_same() {
    for (activation, training) in
        [(Activation::Relu, true), (Activation::Silu, false), (Activation::Identity, true)]
    {
        let (case, inputs) = inputs(activation, training);
        let report = check(&case, gpu()).unwrap();
        assert!(report.passed(), "{report}");

        let (mut layer, [x, residual, dy]) = uploaded(&inputs, training);
        let (y, saved) = layer.forward_add_saved(&x, &residual).unwrap();
        let gradients = layer.backward_saved(&saved, &dy, GradientMask::ALL).unwrap();
        let dresidual = gradients.residual.as_ref().unwrap();

        let mut array_layer = uploaded(&inputs, training).0;
        let [x_array, residual_array, dy_array] = &inputs.tensors;
        let y_array = array_layer.forward_add_array(x_array.view(), residual_array.view()).unwrap();
        assert_eq!(y_array, y.to_array().unwrap());
        let of_arrays = array_layer.backward_array(dy_array.view()).unwrap();
        assert_eq!(of_arrays.residual.unwrap(), dresidual.to_array().unwrap());
        let async_y =
            pollster::block_on(array_layer.forward_add_array_async(x_array.view(), residual_array.view()))
                .unwrap();
        if !training {
            assert_eq!(async_y, y_array);
        }

        let (mut recorded, [x, residual, _]) = uploaded(&inputs, training);
        let out = Tensor::zeros(gpu(), x.shape(), x.layout()).unwrap();
        let mut encoder = gpu().device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        recorded.record_forward_add(&mut encoder, &x, &residual, &out).unwrap();
        gpu().queue().submit([encoder.finish()]);
        assert_eq!(out.to_array().unwrap(), y_array);

        // In place: y overwrites x, so no backward pass is possible.
        let (mut in_place, [x, residual, _]) = uploaded(&inputs, training);
        in_place.forward_add_into(&x, &residual, &x).unwrap();
        assert_eq!(x.to_array().unwrap(), y_array);
        assert!(in_place.saved().is_none());
    }
}

#[test]
fn every_choice_of_gradients() {
    for (activation, training) in
        [(Activation::Gelu, true), (Activation::Relu6, false), (Activation::Identity, true)]
    {
        let (_, inputs) = inputs(activation, training);
        let (mut layer, [x, residual, dy]) = uploaded(&inputs, training);
        let (_, saved) = layer.forward_add_saved(&x, &residual).unwrap();
        let all = layer.backward_saved(&saved, &dy, GradientMask::ALL).unwrap();
        let parts = |gradients: &Gradients| {
            let Gradients { input, weight, bias, residual, .. } = gradients;
            [input, weight, bias, residual].map(|part| part.as_ref().map(exact))
        };
        let all = parts(&all);
        for bits in 0..16 {
            let [input, weight, bias, residual] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            let mask = GradientMask::NONE.input(input).weight(weight).bias(bias).residual(residual);
            let some = parts(&layer.backward_saved(&saved, &dy, mask).unwrap());
            for (k, (some, all)) in some.iter().zip(&all).enumerate() {
                assert_eq!(some.is_some(), bits & 1 << k != 0, "{mask:?}");
                if let (Some(some), Some(all)) = (some, all) {
                    // Other kernels add in another order.
                    compare("gradient", some.view(), all.view(), TOLERANCE).unwrap();
                }
            }
        }
        // dx overwrites dy. dresidual has a tensor of its own.
        let dresidual = Tensor::zeros(gpu(), dy.shape(), dy.layout()).unwrap();
        let gradients = Gradients::new().input(dy.clone()).residual(dresidual.clone());
        layer.backward_into(&saved, &dy, &gradients, GradientWrite::Replace).unwrap();
        compare("dx", exact(&dy).view(), all[0].as_ref().unwrap().view(), TOLERANCE).unwrap();
        compare("dresidual", exact(&dresidual).view(), all[3].as_ref().unwrap().view(), TOLERANCE).unwrap();
    }
}

#[test]
fn what_does_not_fit_is_refused_and_the_layer_goes_on() {
    let (_, inputs) = inputs(Activation::Relu, true);
    let (mut layer, [x, residual, dy]) = uploaded(&inputs, true);
    let before = layer.state().unwrap();
    let small = Tensor::zeros(gpu(), &[4, 6, 5, 6], Layout::ChannelsFirst).unwrap();
    let error = layer.forward_add(&x, &small).unwrap_err().to_string();
    assert!(
        error.contains("residual") && error.contains("[4, 6, 5, 6]") && error.contains("[4, 6, 5, 7]"),
        "{error}"
    );
    let half = Tensor::zeros_of(gpu(), DType::F16, x.shape(), x.layout()).unwrap();
    let error = layer.forward_add(&x, &half).unwrap_err().to_string();
    assert!(error.contains("residual must have elements of type f32, got f16"), "{error}");
    let error = layer.forward_add_array(inputs.tensors[0].view(), ArrayD::zeros(IxDyn(&[4])).view());
    assert!(matches!(error, Err(Error::ShapeMismatch { name: "residual", .. })));
    assert_eq!(layer.state().unwrap(), before);

    // Without a sum there is no dresidual.
    layer.forward(&x).unwrap();
    let saved = layer.saved().unwrap().clone();
    let gradients = Gradients::new().residual(residual.clone());
    let error = layer.backward_into(&saved, &dy, &gradients, GradientWrite::Replace).unwrap_err();
    assert!(matches!(error, Error::StateMismatch { name: "dresidual", expected: false }), "{error}");
    assert!(layer.backward(&dy).unwrap().residual.is_none());

    let config = BatchNormConfig::new(6).activation(Activation::LeakyRelu { slope: f64::NAN });
    assert!(matches!(config.validate(), Err(Error::InvalidConfig { option: "activation", .. })));
}

/// wgpu's default limit is eight buffers per kernel. With it, a pass that needs more runs as several kernels.
#[test]
fn plans_keep_to_the_number_of_buffers() {
    let limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 8, ..wgpu::Limits::default() };
    let info = wgpu::AdapterInfo::new(wgpu::DeviceType::DiscreteGpu, wgpu::Backend::Vulkan);
    let profile = AdapterProfile::new(&info, wgpu::Features::empty(), limits);
    let wide = changed(profile.clone(), |profile| profile.limits.max_storage_buffers_per_shader_stage = 16);
    let config = BatchNormConfig::new(64).activation(Activation::Relu);
    for (outer, inner) in [(32, 49), (8, 64), (512, 1)] {
        let problem = Problem::new(&[outer, 64, inner], Layout::ChannelsFirst).unwrap();
        for dtype in DType::ALL {
            let options = ForwardOptions::new().residual(true).dtype(dtype);
            let forward = |profile| {
                Plan::forward(&PlanInput::new(&problem, &config, Mode::Train, profile), &options).unwrap()
            };
            assert!(forward(&profile).steps().len() >= forward(&wide).steps().len());
            for step in forward(&profile).steps() {
                assert!(step.kernel.storage_buffers() <= 8, "{}", forward(&profile));
            }
            let backward = |in_place, profile| {
                let options = BackwardOptions::new().residual(true).dtype(dtype).in_place(in_place);
                Plan::backward(&PlanInput::new(&problem, &config, Mode::Train, profile), &options)
            };
            for in_place in [true, false] {
                let plan = backward(in_place, &profile).unwrap();
                assert!(plan.steps().iter().all(|step| step.kernel.storage_buffers() <= 8), "{plan}");
                assert!(plan.steps().len() >= backward(in_place, &wide).unwrap().steps().len());
            }
        }
    }
}

/// A fused pass moves less than the passes it replaces: a batch norm, and an activation that reads and writes.
#[test]
fn bytes_that_fusion_saves() {
    let problem = Problem::new(&[8, 64, 112 * 112], Layout::ChannelsFirst).unwrap();
    let bytes = problem.elements() as u64 * 4;
    let profile = gpu().profile();
    for training in [true, false] {
        let plan = |activation, residual| {
            let config = BatchNormConfig::new(64).activation(activation);
            let options = ForwardOptions::new().residual(residual);
            Plan::forward(&PlanInput::new(&problem, &config, training.into(), profile), &options).unwrap()
        };
        let plain = plan(Activation::Identity, false).bytes_moved();
        assert_eq!(plan(Activation::Silu, false).bytes_moved(), plain);
        assert_eq!(plan(Activation::Silu, true).bytes_moved(), plain + bytes);
        assert_eq!(plan(Activation::Silu, true).floor_bytes(), 3 * bytes);
    }
}

/// The sums of a channel's dy count only what passes the activation. Here, half of it does not.
#[test]
fn parameters_learn_from_what_goes_through() {
    let (_, inputs) = inputs(Activation::Relu, true);
    let (mut layer, [x, residual, dy]) = uploaded(&inputs, true);
    let y = layer.forward_add(&x, &residual).unwrap().to_array().unwrap();
    let gradients = layer.backward(&dy).unwrap();
    let dy = &inputs.tensors[2];
    let passed =
        ndarray::Zip::from(dy).and(&y).map_collect(|&dy, &y| if y > 0.0 { f64::from(dy) } else { 0.0 });
    let sums: Array1<f64> = passed.axis_iter(Axis(1)).map(|channel| channel.sum()).collect();
    let dbias = exact(gradients.bias.as_ref().unwrap());
    compare_scaled("dbias", dbias.view(), sums.view(), 100.0, TOLERANCE).unwrap();
    let half = passed.iter().filter(|value| **value == 0.0).count() as f64 / passed.len() as f64;
    assert!((0.3..0.7).contains(&half), "{half}");
    assert_eq!(exact(gradients.residual.as_ref().unwrap()), passed);
    // The reference agrees.
    let (case, _) = self::inputs(Activation::Relu, true);
    assert!(check(&case, &Reference).unwrap().passed());
}
