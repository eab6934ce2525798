//! The backward pass on the GPU: accuracy of long sums, masks, memory, accumulation, the functional form,
//! the order of calls, and what must hold of any gradient.

use crate::support::{self, buffer, gpu, gpu_without_subgroups, poisoned, runner};
use ndarray::{Array1, ArrayD, Axis, IxDyn};
use proptest::prelude::*;
use wgpu_batchnorm::kernels::Binding;
use wgpu_batchnorm::reference;
use wgpu_batchnorm::verify::{Case, Inputs, TOLERANCE, compare, compare_scaled, largest};
use wgpu_batchnorm::{
    AdapterProfile, BackwardOptions, BatchNorm, BatchNormConfig, BatchNormState, Error, Gpu, Gradients,
    Layout, Plan, Saved, Tensor, Wanted, wgpu,
};

use Layout::{ChannelsFirst, ChannelsLast};

/// A case of standard normal data in training.
fn case(shape: &[usize], layout: Layout, seed: u64) -> Case {
    Case {
        name: format!("{layout} {shape:?}"),
        shape: shape.to_vec(),
        config: BatchNormConfig::new(shape[layout.channel_axis(shape.len())]).layout(layout),
        training: true,
        steps: 1,
        mean: 0.0,
        std: 1.0,
        poison: None,
        seed,
    }
}

/// A few small cases in both layouts and modes, with and without affine.
fn small_cases() -> Vec<Case> {
    let shapes: [(&[usize], Layout); 4] = [
        (&[4, 3, 5, 7], ChannelsFirst),
        (&[70, 9], ChannelsFirst),
        (&[3, 6, 7, 5], ChannelsLast),
        (&[2, 3, 200, 31], ChannelsFirst),
    ];
    let mut cases = Vec::new();
    for (seed, (shape, layout)) in (50..).zip(shapes) {
        for (training, affine, track) in [
            (true, true, true),
            (false, true, true),
            (true, false, true),
            (false, false, true),
            (false, true, false),
        ] {
            let mut case = case(shape, layout, seed);
            case.training = training;
            case.config = case.config.affine(affine).track_running_stats(track);
            case.name = format!("{}, training {training}, affine {affine}, tracking {track}", case.name);
            cases.push(case);
        }
    }
    cases
}

/// The layer of a case, with its state and in its mode.
fn layer(gpu: &Gpu, case: &Case, state: &BatchNormState) -> BatchNorm {
    let mut bn = BatchNorm::with_state(gpu, case.config.clone(), state).unwrap();
    if !case.training {
        bn.eval();
    }
    bn
}

/// The layer of a case with x and dy as tensors.
fn on_gpu(gpu: &Gpu, case: &Case) -> (BatchNorm, Tensor, Tensor) {
    let inputs = case.inputs();
    let upload = |array: &ArrayD<f32>| tensor(gpu, array, case.config.layout);
    (layer(gpu, case, &inputs.state), upload(&inputs.xs[0]), upload(&inputs.dys[0]))
}

fn tensor(gpu: &Gpu, array: &ArrayD<f32>, layout: Layout) -> Tensor {
    Tensor::from_array(gpu, array.view()).unwrap().with_layout(layout)
}

/// A tensor that nothing was written to yet: NaN, which no result may be.
fn unwritten(gpu: &Gpu, shape: &[usize], layout: Layout) -> Tensor {
    let elements = shape.iter().product();
    Tensor::from_buffer(gpu, &poisoned(gpu, elements), 0, shape, layout).unwrap()
}

/// The gradients' tensors, unwritten.
fn unwritten_gradients(case: &Case, gpu: &Gpu) -> Gradients {
    let vector = || Some(unwritten(gpu, &[case.config.num_features], ChannelsFirst));
    Gradients {
        input: Some(unwritten(gpu, &case.shape, case.config.layout)),
        weight: vector().filter(|_| case.config.affine),
        bias: vector().filter(|_| case.config.affine),
    }
}

type Bits = Option<Vec<u32>>;

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.to_array().unwrap().iter().map(|value| value.to_bits()).collect()
}

/// dx, dweight and dbias, bit by bit.
fn all_bits(gradients: &Gradients) -> [Bits; 3] {
    [&gradients.input, &gradients.weight, &gradients.bias].map(|tensor| tensor.as_ref().map(bits))
}

fn values(tensor: Option<&Tensor>) -> Vec<f32> {
    tensor.unwrap().to_array().unwrap().into_raw_vec_and_offset().0
}

/// The layer of a case on the CPU, after its forward pass.
fn exact_layer(case: &Case, state: &BatchNormState, x: &ArrayD<f32>) -> reference::BatchNorm {
    let mut layer = reference::BatchNorm::with_state(case.config.clone(), state).unwrap();
    if !case.training {
        layer.eval();
    }
    layer.forward(x.mapv(f64::from).view()).unwrap();
    layer
}

/// That the gradients are the reference's, by the measure of `verify`.
fn assert_right(
    case: &Case,
    gradients: &Gradients,
    state: &BatchNormState,
    x: &ArrayD<f32>,
    dy: &ArrayD<f32>,
) {
    let layer = exact_layer(case, state, x);
    let dy = dy.mapv(f64::from);
    let exact = layer.backward(dy.view()).unwrap();
    let scale_of_dx = largest(dy.view())
        * largest(layer.inv_std().unwrap().view())
        * layer.weight().map_or(1.0, |weight| largest(weight.view()));
    let dx = gradients.input.as_ref().unwrap().to_array().unwrap();
    compare_scaled("dx", dx.view(), exact.dx.view(), scale_of_dx, TOLERANCE).unwrap();
    let scale_of_sums = dy.mapv(f64::abs).sum() * largest(layer.x_hat().unwrap().view()).max(1.0);
    for (tensor, exact) in [(&gradients.weight, exact.dweight), (&gradients.bias, exact.dbias)] {
        let Some(exact) = exact else { continue };
        let vector = Array1::from_vec(values(tensor.as_ref()));
        compare_scaled("sums", vector.view(), exact.view(), scale_of_sums, TOLERANCE).unwrap();
    }
}

// Accuracy.

/// dweight and dbias of a case, with the magnitudes of what they are sums of.
struct LongSums {
    case: Case,
    x: ArrayD<f32>,
    dy: ArrayD<f32>,
    state: BatchNormState,
    exact: [Array1<f64>; 2],
    terms: [Array1<f64>; 2],
}

impl LongSums {
    /// dy has a mean of 1 and a slope of 1 along x, so that the sums grow with the number of values: terms
    /// around 0 would hide that a long sum stops growing.
    fn new(shape: &[usize], layout: Layout, mean: f64) -> Self {
        let mut case = case(shape, layout, 7);
        case.mean = mean;
        let Inputs { mut xs, mut dys, state } = case.inputs();
        let (x, mut dy) = (xs.remove(0), dys.remove(0));
        ndarray::Zip::from(&mut dy).and(&x).for_each(|dy, &x| *dy += 1.0 + (x - mean as f32));
        let layer = exact_layer(&case, &state, &x);
        let exact_dy = dy.mapv(f64::from);
        let sums = layer.backward(exact_dy.view()).unwrap();
        let axis = Axis(layout.channel_axis(shape.len()));
        let magnitudes = |terms: ArrayD<f64>| -> Array1<f64> {
            terms.axis_iter(axis).map(|channel| channel.iter().map(|term| term.abs()).sum()).collect()
        };
        let terms = [magnitudes(&exact_dy * layer.x_hat().unwrap()), magnitudes(exact_dy)];
        Self { case, x, dy, state, exact: [sums.dweight.unwrap(), sums.dbias.unwrap()], terms }
    }

    /// The worst error of dweight and of dbias of all channels, relative to each channel's terms.
    fn errors(&self, gpu: &Gpu) -> [f64; 2] {
        let mut bn = layer(gpu, &self.case, &self.state);
        bn.forward_array(self.x.view()).unwrap();
        let gradients = bn.backward_array(self.dy.view()).unwrap();
        let actual = [gradients.weight.unwrap(), gradients.bias.unwrap()].map(|sums| sums.mapv(f64::from));
        [0, 1].map(|k| {
            let errors = (&actual[k] - &self.exact[k]) / &self.terms[k];
            assert!(errors.iter().all(|error| error.is_finite()));
            largest(errors.view())
        })
    }
}

#[test]
fn sums_of_a_million_values_are_as_good_as_short_ones() {
    // A term rounds by 2⁻²⁴ ≈ 6·10⁻⁸ of itself in x − mean and in the product; a block of 64 terms rounds
    // by at most 32 · 2⁻²⁴ of its magnitudes, and by a tenth of that when roundings are as often up as
    // down; dweight rounds once more in inv_std and in the product with it. The pairs that add the blocks
    // lose nothing that counts. That is 4·10⁻⁷ in all; one f32 that
    // takes a million terms one by one may lose up to 3·10⁻².
    const BOUND: f64 = 4e-7;
    let gpus = [("subgroups", gpu()), ("no subgroups", gpu_without_subgroups())];
    // Columns know no subgroups.
    let shapes =
        [(&[1, 2, 1000, 1000][..], ChannelsFirst, &gpus[..]), (&[1000, 1000, 3], ChannelsLast, &gpus[..1])];
    for (shape, layout, gpus) in shapes {
        for mean in [0.0, 1e5] {
            let sums = LongSums::new(shape, layout, mean);
            for (name, gpu) in gpus {
                let [dweight, dbias] = sums.errors(gpu);
                println!("{name}, {shape:?}, mean {mean}: dweight {dweight:.1e}, dbias {dbias:.1e}");
                assert!(dweight <= BOUND && dbias <= BOUND, "{shape:?}: {dweight:e}, {dbias:e}");
            }
        }
    }
}

#[test]
fn long_sums_keep_what_each_term_adds() {
    // 64 of these numbers sum without rounding, but from the 65th block of 64 on, a single f32 would lose
    // the 2⁻¹⁸ of every further one: 2·10⁻⁶ of the sum. Many channels, so that a lane takes 8192 values.
    const TERM: f32 = 1.0 + 1.0 / (1 << 18) as f32;
    const COUNT: usize = 65_536;
    for shape in [[1, 64, COUNT], [COUNT, 64, 1]] {
        let mut bn = BatchNorm::new(gpu(), BatchNormConfig::new(64)).unwrap();
        bn.eval();
        let [x, dy] =
            [1.0, TERM].map(|value| tensor(gpu(), &ArrayD::from_elem(&shape[..], value), ChannelsFirst));
        bn.forward(&x).unwrap();
        let gradients = bn.backward_wanted(&dy, Wanted::PARAMETERS).unwrap();
        let exact = COUNT as f32 * TERM;
        assert_eq!(values(gradients.bias.as_ref()), [exact; 64], "{shape:?}");
        // x_hat is inv_std here, which is rounded, as is the product with it.
        let dweight = Array1::from_vec(values(gradients.weight.as_ref()));
        let exact = Array1::from_elem(64, f64::from(exact) / (1.0 + 1e-5f64).sqrt());
        compare_scaled("dweight", dweight.view(), exact.view(), exact[0], 3e-7).unwrap();
    }
}

#[test]
fn merged_sums_keep_what_cancellation_leaves() {
    // No workgroup has fewer than four lanes, so each takes one value at most. Those two apart are added
    // first: their sums take a digit more than an f32 has, and both cancel but for a few of the last
    // digits. Without that digit, the two would not be off in the same direction.
    const CHANNELS: usize = 30;
    const LAST_DIGITS: [usize; 4] = [0, 2, 1, 5];
    let sign = |k: usize| if k.is_multiple_of(2) { 1.0f32 } else { -1.0 };
    let shape = [1, CHANNELS, 4];
    let x = ArrayD::from_shape_fn(IxDyn(&shape), |index| 3.0 + sign(index[2]));
    let dy = ArrayD::from_shape_fn(IxDyn(&shape), |index| {
        16.0 + ((2 * index[1] + 1) * LAST_DIGITS[index[2]]) as f32 / (1 << 19) as f32
    });
    for gpu in [gpu(), gpu_without_subgroups()] {
        let mut bn = BatchNorm::new(gpu, BatchNormConfig::new(CHANNELS)).unwrap();
        bn.forward_array(x.view()).unwrap();
        let dweight = bn.backward_array(dy.view()).unwrap().weight.unwrap();
        for (c, dweight) in dweight.iter().enumerate() {
            let sum: f64 = (0..4).map(|k| f64::from(dy[[0, c, k]]) * f64::from(sign(k))).sum();
            let exact = sum / (1.0 + 1e-5f64).sqrt();
            assert!(
                exact != 0.0 && (f64::from(*dweight) - exact).abs() <= 1e-6 * exact.abs(),
                "{dweight:e}, {exact:e}"
            );
        }
    }
}

/// Of two values' dy, x takes all but the share eps / (var + eps): dx is what cancellation leaves, and its
/// digits come from the low parts of mean and slope, and from exact products. The measure of `verify` allows
/// for errors as large as dx itself here; allowed are 10⁻⁶·|dx|.
fn check_what_remains_of_two_values(gpu: &Gpu) {
    type OfChannel<'a> = &'a dyn Fn(usize) -> [f32; 2];
    const CHANNELS: usize = 40;
    // x − mean, its square and dy − mean take few digits: they are not rounded. In planes, where sums are
    // pairs from the first value on, the mean of dy itself need not fit into an f32.
    let away = |c: usize| 2f32.powi(c as i32 % 5 - 2);
    let coarse = |c: usize| [0.25 * c as f32, 0.125 - 0.5 * c as f32];
    let fine = |c: usize| [16.0 - c as f32 * 2f32.powi(-20), 16.0 - (3 * c + 1) as f32 * 2f32.powi(-20)];
    let problems: [(&str, &[usize], Layout, OfChannel<'_>); 4] = [
        ("coarse", &[1, CHANNELS, 2], ChannelsFirst, &coarse),
        ("coarse", &[2, CHANNELS], ChannelsFirst, &coarse),
        ("coarse", &[1, 2, CHANNELS], ChannelsLast, &coarse),
        ("fine", &[1, CHANNELS, 2], ChannelsFirst, &fine),
    ];
    for (digits, shape, layout, dy_of) in problems {
        let case = case(shape, layout, 0);
        let axis = Axis(layout.channel_axis(shape.len()));
        let [mut x, mut dy] = [(); 2].map(|()| ArrayD::<f32>::zeros(shape));
        for c in 0..CHANNELS {
            let set = |array: &mut ArrayD<f32>, values: [f32; 2]| {
                array.index_axis_mut(axis, c).iter_mut().zip(values).for_each(|(to, value)| *to = value);
            };
            set(&mut x, [3.0 + away(c), 3.0 - away(c)]);
            set(&mut dy, dy_of(c));
        }
        let mut bn = BatchNorm::new(gpu, case.config.clone()).unwrap();
        bn.forward_array(x.view()).unwrap();
        let dx = bn.backward_array(dy.view()).unwrap().input;
        for (c, dx) in dx.axis_iter(axis).enumerate() {
            // dy − mean is ± half; of that, x takes away² / (away² + eps). Even in f64, the sums of the
            // reference would cancel too many digits.
            let [first, second] = dy_of(c).map(f64::from);
            let (var, eps) = (f64::from(away(c)).powi(2), case.config.eps);
            let half = 0.5 * (first - second) / (var + eps).sqrt();
            for (dx, half) in dx.iter().zip([half, -half]) {
                let exact = half * eps / (var + eps);
                // inv_std, its product with the weight, eps and the last product are rounded.
                let error = (f64::from(*dx) - exact).abs();
                assert!(error <= 1e-6 * exact.abs(), "{digits}, {shape:?}: {dx:e} is not {exact:e}");
            }
        }
    }
}

#[test]
fn what_remains_of_two_values_is_right_to_the_last_digits() {
    for gpu in [gpu(), gpu_without_subgroups()] {
        check_what_remains_of_two_values(gpu);
    }
}

// What is wanted.

const MASKS: [Wanted; 8] = {
    let mut masks = [Wanted::ALL; 8];
    let mut mask = 0;
    while mask < 8 {
        masks[mask] = Wanted { input: mask & 1 != 0, weight: mask & 2 != 0, bias: mask & 4 != 0 };
        mask += 1;
    }
    masks
};

#[test]
fn what_is_wanted_is_the_same_and_the_rest_is_not_there() {
    for gpu in [gpu(), gpu_without_subgroups()] {
        for case in small_cases() {
            let (mut bn, x, dy) = on_gpu(gpu, &case);
            bn.forward(&x).unwrap();
            let [dx, dweight, dbias] = all_bits(&bn.backward(&dy).unwrap());
            assert!(dx.is_some() && dweight.is_some() == case.config.affine);
            assert_eq!(dweight.is_some(), dbias.is_some());
            for wanted in MASKS {
                let some = all_bits(&bn.backward_wanted(&dy, wanted).unwrap());
                let expected = [
                    dx.clone().filter(|_| wanted.input),
                    dweight.clone().filter(|_| wanted.weight),
                    dbias.clone().filter(|_| wanted.bias),
                ];
                assert!(some == expected, "{}, {wanted:?}", case.name);
            }
        }
    }
}

fn backward_plan(case: &Case, wanted: Wanted, profile: &AdapterProfile) -> Plan {
    let problem = case.config.problem(&case.shape, case.config.layout, case.training).unwrap();
    let options = BackwardOptions { wanted, ..BackwardOptions::default() };
    Plan::backward(&problem, &case.config, case.training, &options, profile).unwrap()
}

#[test]
fn nothing_runs_and_nothing_is_bound_for_what_is_not_wanted() {
    let profile = gpu().profile();
    for mut case in small_cases() {
        let uses_batch = case.config.uses_batch_statistics(case.training);
        for empty in [false, true] {
            if empty {
                case.shape[0] = 0;
            }
            for wanted in MASKS {
                let plan = backward_plan(&case, wanted, profile);
                let stems: Vec<&str> = plan.steps().iter().map(|step| step.kernel.stem()).collect();
                let affine = case.config.affine;
                let (dweight, dbias) = (wanted.weight && affine, wanted.bias && affine);
                let dx = wanted.input && !empty;
                let sums = dweight || dbias || (dx && uses_batch);
                let mut expected = Vec::new();
                expected.extend((sums && !empty).then_some("backward_sums"));
                expected.extend(sums.then_some("backward_finalize"));
                expected.extend(dx.then_some("backward_input"));
                assert_eq!(stems, expected, "{}, {wanted:?}", case.name);

                let binds = |binding: Binding| plan.buffers().iter().any(|(bound, _)| *bound == binding);
                assert_eq!((binds(Binding::DWeight), binds(Binding::DBias)), (dweight, dbias));
                assert_eq!(binds(Binding::Dx), dx);
                assert_eq!(binds(Binding::Projections), dx && uses_batch);
                // The bias's gradient depends on dy alone, and dx after running statistics on no more.
                let x = !empty && (dweight || (dx && uses_batch));
                assert_eq!(binds(Binding::X), x, "{}, {wanted:?}", case.name);
                assert_eq!(binds(Binding::Weight), dx && affine);
                assert!(!binds(Binding::Bias) && !binds(Binding::Y) && !binds(Binding::NumBatchesTracked));
            }
        }
    }
}

// In place, and accumulated.

#[test]
fn dx_may_overwrite_dy() {
    for gpu in [gpu(), gpu_without_subgroups()] {
        for case in small_cases() {
            let (mut bn, x, dy) = on_gpu(gpu, &case);
            bn.forward(&x).unwrap();
            let saved = bn.saved().unwrap().clone();
            let separate = all_bits(&bn.backward(&dy).unwrap());
            let gradients = Gradients { input: Some(dy.clone()), ..unwritten_gradients(&case, gpu) };
            bn.backward_into(&saved, &dy, &gradients, false).unwrap();
            assert!(all_bits(&gradients) == separate, "{}", case.name);
            assert!(Some(bits(&dy)) == separate[0], "{}", case.name);
        }
    }
}

#[test]
fn accumulated_gradients_are_added_and_dx_is_not() {
    for case in small_cases() {
        let (mut bn, x, dy) = on_gpu(gpu(), &case);
        bn.forward(&x).unwrap();
        let saved = bn.saved().unwrap().clone();
        let once = bn.backward(&dy).unwrap();
        let start = |value: f32| {
            let vector = vec![value; case.config.num_features];
            Tensor::from_array(gpu(), Array1::from_vec(vector).view()).unwrap()
        };
        let affine = case.config.affine;
        // From 0, and from a number that the sum is rounded with.
        for begin in [0.0f32, 0.7] {
            let gradients = Gradients {
                input: Some(unwritten(gpu(), &case.shape, case.config.layout)),
                weight: affine.then(|| start(begin)),
                bias: affine.then(|| start(begin)),
            };
            for times in 1..=2 {
                bn.backward_into(&saved, &dy, &gradients, true).unwrap();
                assert!(all_bits(&gradients)[0] == all_bits(&once)[0], "{}", case.name);
                for (sum, once) in [(&gradients.weight, &once.weight), (&gradients.bias, &once.bias)] {
                    let Some(sum) = sum else { continue };
                    let once = values(once.as_ref());
                    let expected: Vec<f32> =
                        once.iter().map(|once| (0..times).fold(begin, |sum, _| sum + once)).collect();
                    assert_eq!(values(Some(sum)), expected, "{}", case.name);
                    if begin == 0.0 && times == 2 {
                        assert_eq!(expected, once.iter().map(|once| 2.0 * once).collect::<Vec<f32>>());
                    }
                }
            }
        }
    }
}

#[test]
fn an_empty_batch_has_zeros_for_gradients_and_adds_nothing() {
    let shapes: [(&[usize], Layout); 4] = [
        (&[0, 5, 9], ChannelsFirst),
        (&[0, 300], ChannelsFirst),
        (&[3, 5, 0, 2], ChannelsFirst),
        (&[0, 4, 7, 5], ChannelsLast),
    ];
    for (shape, layout) in shapes {
        for (training, track) in [(true, true), (false, true), (true, false)] {
            let mut case = case(shape, layout, 1);
            case.training = training;
            case.config = case.config.track_running_stats(track);
            let (mut bn, x, dy) = on_gpu(gpu(), &case);
            let channels = case.config.num_features;
            // A batch before this one, so that the layer's scratch has something in it.
            let before = Tensor::zeros(gpu(), &[3, channels], ChannelsFirst).unwrap();
            bn.forward(&before).unwrap();
            bn.backward(&tensor(gpu(), &ArrayD::ones(IxDyn(&[3, channels])), ChannelsFirst)).unwrap();

            bn.forward(&x).unwrap();
            let saved = bn.saved().unwrap().clone();
            let gradients = bn.backward(&dy).unwrap();
            assert_eq!(gradients.input.unwrap().shape(), shape);
            for wanted in MASKS {
                let mut gradients = unwritten_gradients(&case, gpu());
                gradients.input = gradients.input.filter(|_| wanted.input);
                gradients.weight = gradients.weight.filter(|_| wanted.weight);
                gradients.bias = gradients.bias.filter(|_| wanted.bias);
                bn.backward_into(&saved, &dy, &gradients, false).unwrap();
                for vector in [&gradients.weight, &gradients.bias].into_iter().flatten() {
                    assert_eq!(values(Some(vector)), vec![0.0; channels], "{}, {wanted:?}", case.name);
                }
            }
            let numbers: Array1<f32> = (0..channels).map(|c| c as f32 - 2.5).collect();
            let upload = || Some(Tensor::from_array(gpu(), numbers.view()).unwrap());
            let gradients = Gradients { input: None, weight: upload(), bias: upload() };
            bn.backward_into(&saved, &dy, &gradients, true).unwrap();
            for vector in [&gradients.weight, &gradients.bias] {
                assert_eq!(values(vector.as_ref()), numbers.to_vec());
            }
        }
    }
}

// The functional form.

#[test]
fn saved_passes_can_be_taken_back_in_any_order() {
    let shapes: [(&[usize], bool); 4] =
        [(&[4, 5, 7], true), (&[9, 5], true), (&[3, 5, 2, 2], false), (&[64, 5, 33], true)];
    let cases: Vec<Case> = shapes
        .iter()
        .zip(20..)
        .map(|((shape, training), seed)| {
            let mut case = case(shape, ChannelsFirst, seed);
            // Means that differ, so that another batch's statistics would show.
            (case.training, case.mean, case.std) = (*training, seed as f64, 0.1 * seed as f64);
            // Running statistics that stay where they are: backward takes them as they are then.
            case.config = case.config.momentum(0.0);
            case
        })
        .collect();
    let state = cases[0].inputs().state;
    let mut shared = BatchNorm::with_state(gpu(), cases[0].config.clone(), &state).unwrap();
    let passes: Vec<(Saved, Tensor)> = cases
        .iter()
        .map(|case| {
            let inputs = case.inputs();
            if case.training {
                shared.train();
            } else {
                shared.eval();
            }
            let (y, saved) = shared.forward_saved(&tensor(gpu(), &inputs.xs[0], ChannelsFirst)).unwrap();
            assert_eq!((saved.x().shape(), saved.is_training()), (y.shape(), case.training));
            assert_eq!(saved.statistics().is_some(), case.training);
            (saved, tensor(gpu(), &inputs.dys[0], ChannelsFirst))
        })
        .collect();
    let separate: Vec<[Bits; 3]> = cases
        .iter()
        .map(|case| {
            let inputs = case.inputs();
            let mut bn = layer(gpu(), case, &state);
            bn.forward(&tensor(gpu(), &inputs.xs[0], ChannelsFirst)).unwrap();
            let gradients = bn.backward(&tensor(gpu(), &inputs.dys[0], ChannelsFirst)).unwrap();
            assert_right(case, &gradients, &state, &inputs.xs[0], &inputs.dys[0]);
            all_bits(&gradients)
        })
        .collect();
    // In reverse, as an engine of autodiff does it, and once more forward.
    for k in (0..cases.len()).rev().chain(0..cases.len()) {
        let (saved, dy) = &passes[k];
        let gradients = shared.backward_saved(saved, dy, Wanted::ALL).unwrap();
        assert!(all_bits(&gradients) == separate[k], "{}", cases[k].name);
    }
    // Further forward passes, one of them in place, and a forgotten one change nothing.
    let (saved, dy) = &passes[0];
    shared.train();
    shared.forward(passes[1].0.x()).unwrap();
    shared.forward_in_place(&tensor(gpu(), &cases[3].inputs().xs[0], ChannelsFirst)).unwrap();
    shared.forget();
    let gradients = shared.backward_saved(saved, dy, Wanted::ALL).unwrap();
    assert!(all_bits(&gradients) == separate[0]);
}

#[test]
fn several_passes_share_one_submission() {
    // Forward and backward of two layers, the one's y the other's x, as a network has them.
    let case = case(&[6, 5, 7], ChannelsFirst, 31);
    let (mut first, x, dy) = on_gpu(gpu(), &case);
    let (mut second, ..) = on_gpu(gpu(), &case);
    let y = first.forward(&x).unwrap();
    second.forward(&y).unwrap();
    let upper = second.backward(&dy).unwrap();
    let lower = first.backward(upper.input.as_ref().unwrap()).unwrap();

    let (mut first, ..) = on_gpu(gpu(), &case);
    let (mut second, ..) = on_gpu(gpu(), &case);
    let [middle, out] = [(); 2].map(|()| unwritten(gpu(), &case.shape, ChannelsFirst));
    let (above, below) = (unwritten_gradients(&case, gpu()), unwritten_gradients(&case, gpu()));
    let mut encoder = gpu().device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    first.record_forward(&mut encoder, &x, &middle).unwrap();
    second.record_forward(&mut encoder, &middle, &out).unwrap();
    let saved = [&first, &second].map(|layer| layer.saved().unwrap().clone());
    second.record_backward(&mut encoder, &saved[1], &dy, &above, false).unwrap();
    first.record_backward(&mut encoder, &saved[0], above.input.as_ref().unwrap(), &below, false).unwrap();
    gpu().queue().submit([encoder.finish()]);
    assert!(all_bits(&above) == all_bits(&upper));
    assert!(all_bits(&below) == all_bits(&lower));
}

// The order of calls.

#[test]
fn backward_needs_a_forward_pass_that_left_its_input() {
    let case = case(&[4, 3, 5], ChannelsFirst, 40);
    let inputs = case.inputs();
    let (mut bn, x, dy) = on_gpu(gpu(), &case);
    let refused = |bn: &mut BatchNorm| {
        assert!(bn.saved().is_none());
        assert!(matches!(bn.backward(&dy), Err(Error::NoForward)));
        assert!(matches!(bn.backward_wanted(&dy, Wanted::INPUT), Err(Error::NoForward)));
        assert!(matches!(bn.backward_array(inputs.dys[0].view()), Err(Error::NoForward)));
    };
    refused(&mut bn);
    bn.forward(&x).unwrap();
    assert_right(&case, &bn.backward(&dy).unwrap(), &inputs.state, &inputs.xs[0], &inputs.dys[0]);
    let once = all_bits(&bn.backward(&dy).unwrap());
    assert!(all_bits(&bn.backward(&dy).unwrap()) == once);

    let overwritten = tensor(gpu(), &inputs.xs[0], ChannelsFirst);
    bn.forward_in_place(&overwritten).unwrap();
    refused(&mut bn);
    bn.forward(&x).unwrap();
    assert!(all_bits(&bn.backward(&dy).unwrap()) == once);
    bn.forget();
    refused(&mut bn);
    bn.forward(&x).unwrap();
    assert!(all_bits(&bn.backward(&dy).unwrap()) == once);
    // A forward pass that is refused leaves what the last one saved.
    assert!(bn.forward(&Tensor::zeros(gpu(), &[4, 2], ChannelsFirst).unwrap()).is_err());
    assert!(all_bits(&bn.backward(&dy).unwrap()) == once);
}

#[test]
fn gradients_that_do_not_fit_are_refused_and_change_nothing() {
    let case = case(&[4, 3, 3], ChannelsFirst, 41);
    let (mut bn, x, dy) = on_gpu(gpu(), &case);
    bn.forward(&x).unwrap();
    let saved = bn.saved().unwrap().clone();
    let once = all_bits(&bn.backward(&dy).unwrap());
    let state = bn.state().unwrap();

    let other_shape = Tensor::zeros(gpu(), &[4, 3, 4], ChannelsFirst).unwrap();
    let other_layout = dy.clone().with_layout(ChannelsLast);
    let elsewhere = Gpu::new().unwrap();
    let foreign = Tensor::zeros(&elsewhere, &[4, 3, 3], ChannelsFirst).unwrap();
    let short = Tensor::zeros(gpu(), &[2], ChannelsFirst).unwrap();
    let fits = unwritten_gradients(&case, gpu());

    for wrong in [&other_shape, &other_layout] {
        let is_wrong = |error: Error, wanted: &str| {
            assert!(
                matches!(&error, Error::ShapeMismatch { name, expected, expected_layout, shape, layout }
                    if *name == wanted && *expected_layout == ChannelsFirst && *expected == [4, 3, 3]
                        && *shape == wrong.shape() && *layout == wrong.layout()),
                "{error}"
            );
        };
        is_wrong(bn.backward(wrong).unwrap_err(), "dy");
        is_wrong(bn.backward_into(&saved, wrong, &fits, false).unwrap_err(), "dy");
        let gradients = Gradients { input: Some(wrong.clone()), ..fits.clone() };
        is_wrong(bn.backward_into(&saved, &dy, &gradients, false).unwrap_err(), "dx");
    }
    let error = bn.backward_array(ArrayD::<f32>::zeros(vec![4, 3, 4]).view()).unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { name: "dy", .. }), "{error}");

    let mut into = |gradients: &Gradients| bn.backward_into(&saved, &dy, gradients, false).unwrap_err();
    let error = into(&Gradients { weight: Some(short.clone()), ..fits.clone() });
    assert!(
        matches!(error, Error::ParameterLength { name: "dweight", length: 2, num_features: 3 }),
        "{error}"
    );
    let error = into(&Gradients { bias: Some(short), ..fits.clone() });
    assert!(matches!(error, Error::ParameterLength { name: "dbias", .. }), "{error}");
    for (name, gradients) in [
        ("dx", Gradients { input: Some(foreign.clone()), ..fits.clone() }),
        ("dweight", Gradients { weight: Some(foreign.clone()), ..fits.clone() }),
        ("dbias", Gradients { bias: Some(foreign.clone()), ..fits.clone() }),
    ] {
        let error = into(&gradients);
        assert!(matches!(error, Error::ForeignDevice { name: at_fault } if at_fault == name), "{error}");
    }
    let error = into(&Gradients { input: Some(x.clone()), ..fits.clone() });
    assert!(matches!(error, Error::SharedBuffer { overlap: true, .. }), "{error}");
    for name in ["x", "dx"] {
        assert!(error.to_string().contains(name), "{error}");
    }
    let error = into(&Gradients { bias: fits.weight.clone(), ..fits.clone() });
    assert!(
        matches!(error, Error::SharedBuffer { first: "dweight", second: "dbias", overlap: true }),
        "{error}"
    );
    // Part of dy's buffer, but not dy itself.
    let both = support::zeros(gpu(), 36 * 4 + 4);
    let [dy_part, dx_part] =
        [0, 4].map(|offset| Tensor::from_buffer(gpu(), &both, offset, &[4, 3, 3], ChannelsFirst).unwrap());
    let gradients = Gradients { input: Some(dx_part), ..fits.clone() };
    let error = bn.backward_into(&saved, &dy_part, &gradients, false).unwrap_err();
    assert!(matches!(error, Error::SharedBuffer { overlap: true, .. }), "{error}");
    assert!(matches!(bn.backward(&foreign), Err(Error::ForeignDevice { name: "dy" })));
    // What was saved elsewhere does not fit, either.
    let mut there = BatchNorm::new(&elsewhere, case.config.clone()).unwrap();
    let (_, foreign_saved) = there.forward_saved(&foreign).unwrap();
    let error = bn.backward_saved(&foreign_saved, &dy, Wanted::ALL).unwrap_err();
    assert!(matches!(error, Error::ForeignDevice { name: "x" }), "{error}");

    // Nothing was written meanwhile, and the layer still works.
    let unwritten = |tensor: &Option<Tensor>| values(tensor.as_ref()).iter().all(|value| value.is_nan());
    assert!([&fits.input, &fits.weight, &fits.bias].into_iter().all(unwritten));
    assert_eq!(bn.state().unwrap(), state);
    assert!(all_bits(&bn.backward(&dy).unwrap()) == once);
    bn.backward_into(&saved, &dy, &fits, false).unwrap();
    assert!(all_bits(&fits) == once);
}

#[test]
fn gradients_of_parameters_that_are_not_there_are_refused() {
    let mut case = case(&[4, 3, 5], ChannelsFirst, 42);
    let vector = || Some(Tensor::zeros(gpu(), &[3], ChannelsFirst).unwrap());
    case.config = case.config.affine(false);
    let (mut bn, x, dy) = on_gpu(gpu(), &case);
    bn.forward(&x).unwrap();
    let saved = bn.saved().unwrap().clone();
    for (wrong, gradients) in [
        ("dweight", Gradients { weight: vector(), ..Gradients::default() }),
        ("dbias", Gradients { bias: vector(), ..Gradients::default() }),
    ] {
        let error = bn.backward_into(&saved, &dy, &gradients, false).unwrap_err();
        assert!(matches!(error, Error::StateMismatch { name, expected: false } if name == wrong), "{error}");
    }
    // Without a buffer to write to, there is nothing against it.
    let gradients = bn.backward_wanted(&dy, Wanted::ALL).unwrap();
    assert!(gradients.input.is_some() && gradients.weight.is_none() && gradients.bias.is_none());
    assert!(bn.backward_array(case.inputs().dys[0].view()).unwrap().weight.is_none());
    bn.backward_into(&saved, &dy, &Gradients::default(), false).unwrap();
}

#[test]
fn the_mode_of_the_forward_pass_counts() {
    let case = case(&[4, 3, 5], ChannelsFirst, 43);
    let inputs = case.inputs();
    let (mut bn, x, dy) = on_gpu(gpu(), &case);
    let state = inputs.state.clone();
    bn.forward(&x).unwrap();
    bn.eval();
    // Batch statistics, though the layer is in eval mode by now; the running ones have moved meanwhile.
    assert_right(&case, &bn.backward(&dy).unwrap(), &state, &inputs.xs[0], &inputs.dys[0]);

    // An eval pass of another shape, after the training pass and before one of the same shape again.
    let mut other = case.clone();
    (other.shape, other.training, other.seed) = (vec![9, 3], false, 44);
    let others = other.inputs();
    let moved = bn.state().unwrap();
    assert_ne!(moved, state);
    bn.forward(&tensor(gpu(), &others.xs[0], ChannelsFirst)).unwrap();
    bn.train();
    assert!(matches!(bn.backward(&dy), Err(Error::ShapeMismatch { .. })));
    let gradients = bn.backward(&tensor(gpu(), &others.dys[0], ChannelsFirst)).unwrap();
    assert_right(&other, &gradients, &moved, &others.xs[0], &others.dys[0]);

    // The weight, though, is the layer's at the time of backward.
    let mut heavier = moved;
    heavier.weight = heavier.weight.map(|weight| weight * 3.0);
    bn.load_state(&heavier).unwrap();
    let gradients = bn.backward(&tensor(gpu(), &others.dys[0], ChannelsFirst)).unwrap();
    assert_right(&other, &gradients, &heavier, &others.xs[0], &others.dys[0]);
}

#[test]
fn async_gives_the_same_bits() {
    for case in small_cases() {
        let inputs = case.inputs();
        let mut bn = layer(gpu(), &case, &inputs.state);
        bn.forward_array(inputs.xs[0].view()).unwrap();
        let blocking = bn.backward_array(inputs.dys[0].view()).unwrap();
        let asynchronous = pollster::block_on(bn.backward_array_async(inputs.dys[0].view())).unwrap();
        assert!(blocking.input.iter().all(|value| value.is_finite()));
        assert_eq!(blocking, asynchronous, "{}", case.name);
        // Neither overwrote the caller's array, and tensors give the same.
        let (_, _, dy) = on_gpu(gpu(), &case);
        let tensors = bn.backward(&dy).unwrap();
        assert_eq!(tensors.input.unwrap().to_array().unwrap(), blocking.input);
    }
}

// Memory, and where in it.

/// A tensor of 3 MiB with few channels.
const LARGE: [usize; 4] = [8, 16, 64, 96];

#[test]
fn scratch_does_not_grow_with_the_tensor() {
    for (shape, layout) in [(LARGE, ChannelsFirst), ([8, 64, 96, 16], ChannelsLast)] {
        let case = case(&shape, layout, 45);
        let plan = backward_plan(&case, Wanted::ALL, gpu().profile());
        let channels = case.config.num_features as u64;
        let splits = u64::from(plan.params().reduce.count);
        assert_eq!(plan.scratch_bytes(), 16 * channels * (splits + 1));
        assert!(plan.scratch_bytes() * 8 < plan.bytes_of(Binding::X), "{plan}");
        // Without dx, no projections; after running statistics dx alone needs no scratch at all.
        let parameters = backward_plan(&case, Wanted::PARAMETERS, gpu().profile());
        assert_eq!(parameters.scratch_bytes(), 16 * channels * splits);
        let eval = Case { training: false, ..case };
        assert_eq!(backward_plan(&eval, Wanted::INPUT, gpu().profile()).scratch_bytes(), 0);
    }
}

/// By what the device's own report says is allocated.
#[test]
fn backward_allocates_dx_and_in_place_nothing_of_that_size() {
    // A device of its own, since the report counts what other tests do, too.
    let gpu = Gpu::new().unwrap();
    let allocated = || {
        // What was dropped is freed when the queue is done with it.
        gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let report = gpu.device().generate_allocator_report().expect("Vulkan has a report");
        report.allocations.iter().map(|allocation| allocation.size).sum::<u64>()
    };
    let case = case(&LARGE, ChannelsFirst, 46);
    let (mut bn, x, dy) = on_gpu(&gpu, &case);
    let y = bn.forward(&x).unwrap();
    let saved = bn.saved().unwrap().clone();
    let tensor_bytes = x.bytes();
    let scratch = backward_plan(&case, Wanted::ALL, gpu.profile()).scratch_bytes();
    // dweight and dbias, uniforms, and what wgpu rounds up.
    let small = 1 << 16;
    let before = allocated();
    assert!(before >= 3 * tensor_bytes, "{before} bytes for x, dy and y");

    let gradients = bn.backward(&dy).unwrap();
    let after = allocated();
    println!("backward: {} bytes for a tensor of {tensor_bytes}", after - before);
    assert!(after >= before + tensor_bytes && after <= before + tensor_bytes + scratch + small);
    drop(gradients);
    let after = allocated();
    assert!(after <= before + scratch + small, "{after} bytes, {before} before");

    let vector = || Tensor::zeros(&gpu, &[16], ChannelsFirst).ok();
    let gradients = Gradients { input: Some(dy.clone()), weight: vector(), bias: vector() };
    let before = allocated();
    for _ in 0..3 {
        bn.backward_into(&saved, &dy, &gradients, false).unwrap();
    }
    let after = allocated();
    println!("in place: {} bytes", after.abs_diff(before));
    assert!(after <= before + small, "{after} bytes, {before} before");

    let before = allocated();
    let parameters = bn.backward_wanted(&dy, Wanted::PARAMETERS).unwrap();
    assert!(allocated() <= before + small);
    drop((parameters, y));
}

/// Whether two right results differ by their roundings only: by 10⁻⁶ of the largest value, which is what
/// `verify` allows either of them.
fn are_close(actual: &Gradients, expected: &Gradients) -> bool {
    let tensors = |gradients: &Gradients| {
        [&gradients.input, &gradients.weight, &gradients.bias]
            .map(|tensor| tensor.as_ref().map(|tensor| tensor.to_array().unwrap()))
    };
    tensors(actual).into_iter().zip(tensors(expected)).all(|pair| match pair {
        (Some(actual), Some(expected)) => {
            compare("gradient", actual.view(), expected.mapv(f64::from).view(), 1e-6).is_ok()
        }
        (None, None) => true,
        _ => false,
    })
}

#[test]
fn any_offset_of_four_bytes_will_do() {
    for gpu in [gpu(), gpu_without_subgroups()] {
        for case in small_cases() {
            let inputs = case.inputs();
            let (mut bn, x, dy) = on_gpu(gpu, &case);
            bn.forward(&x).unwrap();
            let aligned = bn.backward(&dy).unwrap();
            let expected = all_bits(&aligned);
            // Where four elements are loaded at once, unaligned tensors take another plan, whose sums run in
            // another order; else the offset makes no difference at all.
            let problem = case.config.problem(&case.shape, case.config.layout, case.training).unwrap();
            let by_fours = problem.inner > 1 && problem.inner.is_multiple_of(4);
            let same = |gradients: &Gradients| {
                if by_fours { are_close(gradients, &aligned) } else { all_bits(gradients) == expected }
            };

            let elements = x.shape().iter().product::<usize>();
            // NaN on both sides, which must neither be read nor written.
            let guarded = |array: Option<&ArrayD<f32>>, guard: usize| {
                let mut all = vec![f32::NAN; elements + 2 * guard];
                if let Some(array) = array {
                    all[guard..guard + elements].copy_from_slice(array.as_slice().unwrap());
                }
                let buffer = buffer(gpu, &all);
                Tensor::from_buffer(gpu, &buffer, guard as u64 * 4, &case.shape, case.config.layout).unwrap()
            };
            let guards_hold = |tensor: &Tensor| {
                let all = support::read(gpu, tensor.buffer());
                let guard = (all.len() - elements) / 2;
                all[..guard].iter().chain(&all[guard + elements..]).all(|value| value.is_nan())
            };
            for [x_guard, dy_guard, dx_guard] in [[1, 0, 0], [0, 3, 0], [0, 0, 5], [67, 13, 129]] {
                let (x, dy) =
                    (guarded(Some(&inputs.xs[0]), x_guard), guarded(Some(&inputs.dys[0]), dy_guard));
                let (_, saved) = bn.forward_saved(&x).unwrap();
                // The running statistics moved with the first forward pass already, as with this one.
                bn.load_state(&inputs.state).unwrap();
                let input = Some(guarded(None, dx_guard));
                let gradients = Gradients { input, ..unwritten_gradients(&case, gpu) };
                bn.backward_into(&saved, &dy, &gradients, false).unwrap();
                assert!(same(&gradients), "{}: {x_guard} {dy_guard} {dx_guard}", case.name);
                assert!(guards_hold(gradients.input.as_ref().unwrap()));

                let gradients = Gradients { input: Some(dy.clone()), ..unwritten_gradients(&case, gpu) };
                bn.backward_into(&saved, &dy, &gradients, false).unwrap();
                assert!(same(&gradients), "in place, {}: {dy_guard}", case.name);
                assert!(guards_hold(&dy));
            }
        }
    }
}

#[test]
fn more_workgroups_than_a_dimension_holds() {
    // Planes take a workgroup for each channel, columns an invocation.
    for shape in [&[2, 70_001, 2][..], &[2, 530_001]] {
        let case = case(shape, ChannelsFirst, 47);
        let plan = backward_plan(&case, Wanted::ALL, gpu().profile());
        for stem in ["backward_sums", "backward_input"] {
            let step = plan.steps().iter().find(|step| step.kernel.stem() == stem).unwrap();
            // Where workgroups are large, half a million columns take fewer.
            assert!(step.grid[1] > 1 || step.kernel.workgroup_size() > 16, "{plan}");
        }
        let inputs = case.inputs();
        let (mut bn, x, dy) = on_gpu(gpu(), &case);
        bn.forward(&x).unwrap();
        assert_right(&case, &bn.backward(&dy).unwrap(), &inputs.state, &inputs.xs[0], &inputs.dys[0]);
    }
}

#[test]
fn what_is_not_finite_in_dy_stays_in_its_channel() {
    for (shape, layout) in
        [(&[3, 4, 5, 5][..], ChannelsFirst), (&[3, 5, 7, 4], ChannelsLast), (&[70, 4], ChannelsFirst)]
    {
        for training in [true, false] {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut case = case(shape, layout, 48);
                case.training = training;
                let mut inputs = case.inputs();
                let axis = Axis(layout.channel_axis(shape.len()));
                *inputs.dys[0].index_axis_mut(axis, 2).first_mut().unwrap() = value;
                let mut bn = layer(gpu(), &case, &inputs.state);
                bn.forward_array(inputs.xs[0].view()).unwrap();
                let gradients = bn.backward_array(inputs.dys[0].view()).unwrap();
                let exact = exact_layer(&case, &inputs.state, &inputs.xs[0]);
                let exact = exact.backward(inputs.dys[0].mapv(f64::from).view()).unwrap();
                for (c, (dx, exact)) in
                    gradients.input.axis_iter(axis).zip(exact.dx.axis_iter(axis)).enumerate()
                {
                    assert!(dx.iter().all(|dx| dx.is_finite()) || c == 2, "{}", case.name);
                    // An infinity less an infinity may come out as either kind, so finite or not is all
                    // that can be asked for.
                    for (dx, exact) in dx.iter().zip(&exact) {
                        assert_eq!(dx.is_finite(), exact.is_finite(), "{}, {value}", case.name);
                    }
                }
                let sums = [(gradients.weight, exact.dweight), (gradients.bias, exact.dbias)];
                for (vector, exact) in sums {
                    let (vector, exact) = (vector.unwrap(), exact.unwrap());
                    compare_scaled("sums", vector.view(), exact.view(), largest(exact.view()), 1e-5).unwrap();
                }
            }
        }
    }
}

// What must hold of any gradient.

/// Random shapes and layouts, without extremes in the data.
fn cases() -> impl Strategy<Value = Case> {
    let size = prop_oneof![Just(1usize), 2..10usize, 10..70usize];
    let shapes = prop::collection::vec(size, 2..=5)
        .prop_filter("of middling size", |shape| (6..20_000).contains(&shape.iter().product::<usize>()));
    (shapes, prop_oneof![Just(ChannelsFirst), Just(ChannelsLast)], any::<u64>(), prop::bool::ANY)
        .prop_map(|(shape, layout, seed, affine)| {
            let mut case = case(&shape, layout, seed);
            case.config = case.config.affine(affine);
            case
        })
        .prop_filter("at least three values per channel", |case| {
            case.shape.iter().product::<usize>() >= 3 * case.config.num_features
        })
}

/// dx on the GPU.
fn dx_of(case: &Case, x: &ArrayD<f32>, dy: &ArrayD<f32>, state: &BatchNormState) -> ArrayD<f64> {
    let mut bn = layer(gpu(), case, state);
    bn.forward_array(x.view()).unwrap();
    bn.backward_array(dy.view()).unwrap().input.mapv(f64::from)
}

#[test]
fn dx_is_orthogonal_to_ones_and_to_x_hat() {
    // Σdx = 0 also means that a bias in front of batch norm gets no gradient, as it should: it changes
    // nothing.
    runner(60)
        .run(&cases(), |case| {
            let inputs = case.inputs();
            let dx = dx_of(&case, &inputs.xs[0], &inputs.dys[0], &inputs.state);
            let exact = exact_layer(&case, &inputs.state, &inputs.xs[0]);
            let axis = Axis(case.config.layout.channel_axis(case.shape.len()));
            let dy = inputs.dys[0].mapv(f64::from);
            let channels =
                dx.axis_iter(axis).zip(exact.x_hat().unwrap().axis_iter(axis)).zip(dy.axis_iter(axis));
            for (c, ((dx, x_hat), dy)) in channels.enumerate() {
                let inv_std = exact.inv_std().unwrap()[c];
                let scale = inv_std * exact.weight().map_or(1.0, |weight| weight[c]);
                // Every dx may err by so much, the measure of `verify`; so the sums may by the sum of that.
                let error = TOLERANCE * scale.abs() * largest(dy.view());
                let along_ones = dx.sum();
                prop_assert!(
                    along_ones.abs() <= error * dx.len() as f64,
                    "Σdx = {along_ones:e}, {}",
                    case.name
                );
                // 0 but for eps, since Σx_hat² / n is var / (var + eps).
                let eps_share = case.config.eps * inv_std.powi(2);
                let along_x_hat = (&dx * &x_hat).sum() - scale * eps_share * (&dy * &x_hat).sum();
                prop_assert!(
                    along_x_hat.abs() <= error * x_hat.mapv(f64::abs).sum(),
                    "Σdx·x_hat = {along_x_hat:e}, {}",
                    case.name
                );
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn scaling_x_scales_dx_by_the_inverse() {
    // Powers of two: x and its statistics scale without rounding. A negative one turns x_hat around, which
    // dx has two of.
    let factors = (-6..=6i32, prop::bool::ANY)
        .prop_map(|(power, sign)| if sign { 2f64.powi(power) } else { -(2f64.powi(power)) });
    runner(40)
        .run(&(cases(), factors), |(mut case, factor)| {
            case.config = case.config.eps(1e-12);
            let inputs = case.inputs();
            let (x, dy) = (&inputs.xs[0], &inputs.dys[0]);
            let dx = dx_of(&case, x, dy, &inputs.state);
            let scaled = dx_of(&case, &x.mapv(|x| x * factor as f32), dy, &inputs.state);
            let exact = exact_layer(&case, &inputs.state, x);
            let inv_std = largest(exact.inv_std().unwrap().view());
            let weight = exact.weight().map_or(1.0, |weight| largest(weight.view()));
            let scale = inv_std * weight * largest(dy.mapv(f64::from).view());
            // Both may err by the measure of `verify`; and eps does not scale with x.
            let eps = 1e-12 * inv_std.powi(2) * (1.0 + factor.powi(-2));
            compare_scaled("dx", (scaled * factor.abs()).view(), dx.view(), scale, 2.0 * TOLERANCE + eps)
                .unwrap();
            Ok(())
        })
        .unwrap();
}

#[test]
fn shifting_x_changes_neither_y_nor_dx() {
    runner(40)
        .run(&(cases(), -4000..4000i32), |(case, shift)| {
            let inputs = case.inputs();
            // Multiples of 2⁻⁹ below 2¹³ have at most 22 digits: adding the shift rounds nothing.
            let x = inputs.xs[0].mapv(|x| (x * 512.0).round() / 512.0);
            let shifted = x.mapv(|x| x + shift as f32);
            let both = [&x, &shifted].map(|x| {
                let mut bn = layer(gpu(), &case, &inputs.state);
                let y = bn.forward_array(x.view()).unwrap().mapv(f64::from);
                (y, bn.backward_array(inputs.dys[0].view()).unwrap().input.mapv(f64::from))
            });
            let [(y, dx), (y_shifted, dx_shifted)] = both;
            // Both may err by the measure of `verify`.
            compare_scaled("y", y_shifted.view(), y.view(), largest(y.view()), 2.0 * TOLERANCE).unwrap();
            let exact = exact_layer(&case, &inputs.state, &x);
            let weight = exact.weight().map_or(1.0, |weight| largest(weight.view()));
            let scale = largest(exact.inv_std().unwrap().view())
                * weight
                * largest(inputs.dys[0].mapv(f64::from).view());
            compare_scaled("dx", dx_shifted.view(), dx.view(), scale, 2.0 * TOLERANCE).unwrap();
            Ok(())
        })
        .unwrap();
}

#[test]
fn after_running_statistics_dx_is_dy_scaled() {
    runner(40)
        .run(&cases(), |mut case| {
            case.training = false;
            let inputs = case.inputs();
            let dx = dx_of(&case, &inputs.xs[0], &inputs.dys[0], &inputs.state);
            let ones = vec![1.0; case.config.num_features];
            let weight = inputs.state.weight.map_or(ones, |weight| weight.mapv(f64::from).to_vec());
            let var = inputs.state.running_var.unwrap();
            let axis = Axis(case.config.layout.channel_axis(case.shape.len()));
            for (c, (dx, dy)) in dx.axis_iter(axis).zip(inputs.dys[0].axis_iter(axis)).enumerate() {
                let scale = weight[c] / (f64::from(var[c]) + case.config.eps).sqrt();
                for (dx, dy) in dx.iter().zip(&dy) {
                    let exact = f64::from(*dy) * scale;
                    // Element by element: var + eps, inv_std by 2 units in the last place at most, and two
                    // products round by 2⁻²⁴ to 2⁻²² of dx itself.
                    prop_assert!((dx - exact).abs() <= 5e-7 * exact.abs(), "{dx} is not {exact}");
                }
            }
            Ok(())
        })
        .unwrap();
}
