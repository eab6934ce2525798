//! Layers with only a weight, or with only a bias: they are the layer with both, whose other parameter is neutral.

use crate::gradients::case;
use crate::recorded::Recorded;
use crate::support::{changed, gpu, zeros};
use ndarray::{Array1, Array2};
use std::collections::BTreeSet;
use wgpu_batchnorm::kernels::Binding;
use wgpu_batchnorm::verify::{Case, Implementation, Inputs, Step};
use wgpu_batchnorm::{
    Activation, BackwardOptions, BatchNorm, BatchNormConfig, BatchNormState, Buffers, DType, Error,
    GradientMask, Layout, Plan, PlanInput, Tensor, Tuning,
};

use Layout::{ChannelsFirst, ChannelsLast};

/// Every choice of weight and bias.
const CHOICES: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// Returns ways to plan a pass: channels in registers, one dispatch, several dispatches, and several dispatches of
/// which the last one merges. Each with two of the cases to run, by their indices.
fn ways() -> [(Recorded<'static>, [usize; 2]); 4] {
    let several = |tuning| {
        changed(tuning, |tuning: &mut Tuning| {
            (tuning.tile_loads, tuning.one_dispatch, tuning.splits) = (0, false, 3);
        })
    };
    let one = |tuning| {
        changed(tuning, |tuning: &mut Tuning| {
            (tuning.tile_loads, tuning.one_dispatch, tuning.splits) = (0, true, 1);
        })
    };
    let here = || Recorded::new(gpu());
    let resident = here().tuned(|tuning| changed(tuning, |tuning| tuning.tile_loads = 16));
    [
        (resident, [0, 1]),
        (here().tuned(one), [0, 2]),
        (here().tuned(several), [2, 3]),
        (here().gpu_like().tuned(several), [0, 1]),
    ]
}

/// Returns cases in both layouts and modes, of every element type, with and without an activation.
fn cases() -> Vec<Case> {
    let relu = |case: &mut Case| case.config = case.config.clone().activation(Activation::Relu);
    vec![
        case(&[4, 6, 5, 8], ChannelsFirst, 71),
        changed(case(&[3, 4, 7, 9], ChannelsFirst, 72), |case| {
            relu(case);
            (case.dtype, case.residual) = (DType::F16, true);
        }),
        changed(case(&[4, 5, 7, 12], ChannelsLast, 73), |case| {
            relu(case);
            case.dtype = DType::BF16;
        }),
        changed(case(&[3, 4, 5, 7], ChannelsFirst, 74), |case| {
            relu(case);
            case.training = false;
        }),
    ]
}

fn with(mut case: Case, weight: bool, bias: bool) -> Case {
    case.config = case.config.weight(weight).bias(bias);
    case
}

/// Returns the results as bits: y, dx, dresidual, dweight and dbias.
fn bits(step: Step) -> [Option<Vec<u64>>; 5] {
    let gradients = step.gradients.unwrap();
    let of = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
    let vector = |vector: Option<Array1<f64>>| vector.map(|vector| of(vector.to_vec()));
    [
        Some(of(step.y.into_iter().collect())),
        Some(of(gradients.dx.into_iter().collect())),
        gradients.dresidual.map(|dresidual| of(dresidual.into_iter().collect())),
        vector(gradients.dweight),
        vector(gradients.dbias),
    ]
}

/// Checks that a layer with one parameter gives the bits of a layer with both, in which the other one is neutral.
fn assert_neutral(weight: bool) {
    let mut stems = BTreeSet::new();
    let cases = cases();
    for (way, indices) in ways() {
        for case in indices.map(|index| &cases[index]) {
            let (one, both) = (with(case.clone(), weight, !weight), with(case.clone(), true, true));
            stems.extend(way.plans(&one).unwrap().iter().flat_map(Plan::kernels).map(|kernel| kernel.stem()));
            let inputs = one.inputs();
            let mut neutral: Inputs = inputs.clone();
            let new = BatchNormState::new(&both.config);
            neutral.state.weight = neutral.state.weight.or(new.weight);
            neutral.state.bias = neutral.state.bias.or(new.bias);
            let run = |case, inputs| bits(way.run(case, inputs).unwrap().steps.remove(0));
            let (found, mut wanted) = (run(&one, &inputs), run(&both, &neutral));
            wanted[if weight { 4 } else { 3 }] = None;
            assert!(found == wanted, "{}, {:?}", one.name, one.dtype);
        }
    }
    for stem in [
        "forward_resident",
        "forward_one_dispatch",
        "finalize",
        "normalize",
        "backward_resident",
        "backward_one_dispatch",
        "backward_finalize",
        "backward_input",
    ] {
        assert!(stems.contains(stem), "no {stem} in {stems:?}");
    }
}

#[test]
fn only_a_weight_is_both_with_a_bias_of_zeros() {
    assert_neutral(true);
}

#[test]
fn only_a_bias_is_both_with_a_weight_of_ones() {
    assert_neutral(false);
}

#[test]
fn only_buffers_of_what_is_there_are_bound() {
    for ((weight, bias), activation) in
        CHOICES.into_iter().flat_map(|choice| [(choice, Activation::Identity), (choice, Activation::Silu)])
    {
        let case = with(case(&[4, 6, 5, 8], ChannelsFirst, 75), weight, bias);
        let case = changed(case, |case| case.config = case.config.clone().activation(activation));
        for (way, _) in ways() {
            let [forward, backward] = way.plans(&case).unwrap();
            let binds = |plan: &Plan, binding| plan.buffers().iter().any(|(bound, _)| *bound == binding);
            let of = |plan: &Plan, bindings: [Binding; 2]| bindings.map(|binding| binds(plan, binding));
            assert_eq!(of(&forward, [Binding::Weight, Binding::Bias]), [weight, bias], "{forward}");
            // Without an activation, no gradient depends on the bias.
            let bias_is_read = bias && activation != Activation::Identity;
            assert_eq!(of(&backward, [Binding::Weight, Binding::Bias]), [weight, bias_is_read], "{backward}");
            assert_eq!(of(&backward, [Binding::DWeight, Binding::DBias]), [weight, bias], "{backward}");
        }
    }
    // A buffer that is there is asked for by name.
    let case = with(case(&[4, 6, 5, 8], ChannelsFirst, 75), false, true);
    let [forward, _] = Recorded::new(gpu()).plans(&case).unwrap();
    let [x, y, other] = [Binding::X, Binding::Y, Binding::NumBatchesTracked]
        .map(|binding| zeros(gpu(), forward.bytes_of(binding).max(1 << 12)));
    let buffers = Buffers::from_fn(|binding| match binding {
        Binding::X => Some((&x).into()),
        Binding::Y => Some((&y).into()),
        Binding::Bias => None,
        _ => Some((&other).into()),
    });
    let error = gpu().prepare(&forward).unwrap().bind(&buffers).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::MissingBuffer { name: "bias", .. }), "{error}");
}

/// Otherwise, the same text would be compiled twice.
#[test]
fn without_an_activation_the_bias_changes_no_kernel_of_dx() {
    let kernels = |case: &Case, bias| {
        let case = with(case.clone(), true, bias);
        let problem = case.config.problem(&case.shape, case.config.layout, case.training.into()).unwrap();
        let input = PlanInput::new(&problem, &case.config, case.training.into(), gpu().profile());
        let options = BackwardOptions::new().mask(GradientMask::INPUT.weight(true)).residual(case.residual);
        Plan::backward(&input, &options.dtype(case.dtype)).unwrap().kernels()
    };
    for case in cases() {
        let is_same = case.config.activation == Activation::Identity;
        assert_eq!(kernels(&case, true) == kernels(&case, false), is_same, "{}", case.name);
    }
}

#[test]
fn a_layer_has_what_its_options_say() {
    for (weight, bias) in CHOICES {
        let config = BatchNormConfig::new(3).weight(weight).bias(bias);
        let mut bn = BatchNorm::new(gpu(), config.clone()).unwrap();
        assert_eq!((bn.weight().is_some(), bn.bias().is_some()), (weight, bias));
        let state = bn.state().unwrap();
        assert_eq!(state, BatchNormState::new(&config));
        assert_eq!((state.weight.is_some(), state.bias.is_some()), (weight, bias));

        let x = Array2::from_shape_fn((4, 3), |(n, c)| (n * 3 + c * c) as f32);
        bn.forward_array(x.view()).unwrap();
        let arrays = bn.backward_array(x.view()).unwrap();
        assert_eq!((arrays.weight.is_some(), arrays.bias.is_some()), (weight, bias));
        let on_gpu = bn.backward(&Tensor::from_array(gpu(), x.view()).unwrap()).unwrap();
        assert_eq!((on_gpu.weight.is_some(), on_gpu.bias.is_some()), (weight, bias));
        let vector = |tensor: Option<Tensor>| tensor.map(|tensor| tensor.to_array().unwrap().into_dyn());
        assert_eq!(vector(on_gpu.weight), arrays.weight.map(Array1::into_dyn));
        assert_eq!(vector(on_gpu.bias), arrays.bias.map(Array1::into_dyn));
    }
    let both = BatchNormConfig::new(3);
    assert_eq!(both.clone().affine(false), both.clone().weight(false).bias(false));
    assert_eq!(both.clone().bias(false).affine(true), both);
}

/// Returns the words of a state that does not fit.
fn refused(config: &BatchNormConfig, state: &BatchNormState) -> String {
    BatchNorm::with_state(gpu(), config.clone(), state).unwrap_err().to_string()
}

#[test]
fn a_state_that_does_not_fit_names_its_option() {
    let both = BatchNormConfig::new(3);
    let (only_weight, only_bias) = (both.clone().bias(false), both.clone().weight(false));
    let state = BatchNormState::new;
    let surplus = "bias is given, but the configuration has none: leave it out, or set bias to true";
    assert_eq!(refused(&only_weight, &state(&both)), surplus);
    let missing = "bias is missing, but the configuration asks for it: give it, or set bias to false";
    assert_eq!(refused(&both, &state(&only_weight)), missing);
    let surplus = "weight is given, but the configuration has none: leave it out, or set weight to true";
    assert_eq!(refused(&only_bias, &state(&both)), surplus);
    assert_eq!(refused(&only_bias, &state(&only_weight)), surplus);
    let untracked = both.clone().track_running_stats(false);
    let error = refused(&untracked, &state(&both));
    assert!(error.contains("running_mean") && error.contains("track_running_stats to true"), "{error}");
    let dbias = Error::StateMismatch { name: "dbias", expected: false }.to_string();
    assert_eq!(dbias, "dbias is given, but the configuration has none: leave it out, or set bias to true");
    let dresidual = Error::StateMismatch { name: "dresidual", expected: false }.to_string();
    assert_eq!(
        dresidual,
        "dresidual is given, but the forward pass added nothing: leave it out, or call forward_add"
    );
}
