//! Folding, against PyTorch's numbers in f64 (tests/networks/generate.py).

use crate::support::gpu;
use ndarray::{Array1, Array2, ArrayD, IxDyn};
use safetensors::Dtype;
use wgpu_batchnorm::{
    Activation, BatchNorm, BatchNormConfig, BatchNormState, Checkpoint, Convolution, Error, Tensor,
};

pub(crate) fn file(name: &str) -> Checkpoint {
    Checkpoint::read(format!("{}/tests/networks/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

pub(crate) fn array(file: &Checkpoint, name: &str) -> Option<ArrayD<f64>> {
    let tensor = file.tensor(name)?;
    let values: Vec<f64> = match tensor.dtype {
        Dtype::F32 => {
            tensor.data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes).into()).collect()
        }
        Dtype::F64 => tensor.data.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
        dtype => panic!("{name} is {dtype}"),
    };
    Some(ArrayD::from_shape_vec(IxDyn(&tensor.shape), values).unwrap())
}

/// Checks that the values equal the exact ones rounded to f32. The tolerance covers the rounding of f64 on both
/// sides, which can tip a tie.
fn assert_rounded(found: &ArrayD<f32>, exact: &ArrayD<f64>, what: &str) {
    assert_eq!(found.shape(), exact.shape(), "{what}");
    for (found, exact) in found.iter().zip(exact) {
        let half_a_unit = f64::from((*exact as f32).abs()) * f64::from(f32::EPSILON) / 2.0;
        assert!(
            (f64::from(*found) - exact).abs() <= half_a_unit * (1.0 + 1e-6),
            "{what}: {found}, exact {exact}"
        );
    }
}

#[test]
fn every_kind_of_layer_folds_as_in_pytorch() {
    let file = file("fold.safetensors");
    let names: Vec<&str> = file.names().filter_map(|name| name.strip_suffix(".folded.weight")).collect();
    assert_eq!(names.len(), 9, "{names:?}");
    for name in names {
        let (transposed, groups) = file.metadata(name).unwrap().split_once(',').unwrap();
        let convolution =
            Convolution { transposed: transposed.parse().unwrap(), groups: groups.parse().unwrap() };
        let eps = file.metadata("eps").unwrap().parse().unwrap();
        let get = |tensor: &str| array(&file, &format!("{name}.{tensor}"));
        let exact = (get("folded.weight").unwrap(), get("folded.bias").unwrap());
        let config = BatchNormConfig::new(exact.1.len()).eps(eps);
        let state = file.state(format!("{name}.bn.").as_str(), &config).unwrap();

        let weight = get("weight").unwrap().mapv(|value| value as f32);
        let bias = get("bias").map(|bias| bias.iter().map(|&value| value as f32).collect::<Array1<f32>>());
        let bias = bias.as_ref().map(|bias| bias.view());
        let folded = state.fold_into_conv(&config, weight.view(), bias, convolution).unwrap();
        assert_rounded(&folded.weight, &exact.0, name);
        assert_rounded(&folded.bias.into_dyn(), &exact.1, name);
        if name == "linear" {
            let weight: Array2<f32> = weight.into_dimensionality().unwrap();
            let linear = state.fold_into_linear(&config, weight.view(), bias).unwrap();
            assert_rounded(&linear.weight.into_dyn(), &exact.0, name);
        }
    }
}

#[test]
fn scale_and_shift_are_what_eval_computes() {
    let file = file("fold.safetensors");
    let config = BatchNormConfig::new(8).eps(1e-3);
    let state = file.state("conv2d.bn.", &config).unwrap();
    let mut bn = BatchNorm::with_state(gpu(), config, &state).unwrap();
    bn.eval();
    let affine = bn.scale_and_shift().unwrap();
    let x = ArrayD::from_shape_fn(IxDyn(&[3, 8]), |index| (index[0] * 8 + index[1]) as f32 * 0.37 - 4.0);
    let y = bn.forward(&Tensor::from_array(gpu(), x.view()).unwrap()).unwrap().to_array().unwrap();
    let wanted = x.mapv(f64::from) * affine.scale.mapv(f64::from) + affine.shift.mapv(f64::from);
    for (found, wanted) in y.iter().zip(&wanted) {
        // The tolerance covers a few roundings of numbers below 16.
        assert!((f64::from(*found) - wanted).abs() <= 4e-6, "{found}, folded {wanted}");
    }
    // Without parameters, the scale is 1 / sqrt(var + eps), and the shift is −mean times that.
    let bare = BatchNormState { weight: None, bias: None, ..state.clone() };
    let affine = bare.scale_and_shift(&BatchNormConfig::new(8).eps(1e-3).affine(false)).unwrap();
    let (mean, var) = (state.running_mean.unwrap(), state.running_var.unwrap());
    for c in 0..8 {
        let scale = 1.0 / (f64::from(var[c]) + 1e-3).sqrt();
        assert_eq!(affine.scale[c], scale as f32);
        assert_eq!(affine.shift[c], (-f64::from(mean[c]) * scale) as f32);
    }
}

/// A parameter that is not there folds as a weight of 1, or a bias of 0.
#[test]
fn layers_with_one_parameter_fold_as_with_a_neutral_other() {
    let both = BatchNormConfig::new(8).eps(1e-3);
    let full = file("fold.safetensors").state("conv2d.bn.", &both).unwrap();
    let kernel = ArrayD::from_shape_fn(IxDyn(&[8, 3]), |index| (index[0] * 3 + index[1]) as f32 - 7.5);
    let own_bias = Array1::from_shape_fn(8, |c| c as f32 * 0.3 - 1.0);
    for (weight, bias) in [(true, false), (false, true)] {
        let config = both.clone().weight(weight).bias(bias);
        let [mut one, mut neutral] = [full.clone(), full.clone()];
        if weight {
            (one.bias, neutral.bias) = (None, Some(Array1::zeros(8)));
        } else {
            (one.weight, neutral.weight) = (None, Some(Array1::ones(8)));
        }
        assert_eq!(one.scale_and_shift(&config).unwrap(), neutral.scale_and_shift(&both).unwrap());
        let fold = |state: &BatchNormState, config| {
            state
                .fold_into_conv(config, kernel.view(), Some(own_bias.view()), Convolution::default())
                .unwrap()
        };
        assert_eq!(fold(&one, &config), fold(&neutral, &both));
        assert_ne!(fold(&one, &config), fold(&full, &both));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let config = BatchNormConfig::new(4);
    let state = BatchNormState::new(&config);
    let refused = |shape: &[usize], transposed, groups| {
        let convolution = Convolution { transposed, groups };
        let error =
            state.fold_into_conv(&config, ArrayD::zeros(shape).view(), None, convolution).unwrap_err();
        assert!(matches!(error, Error::FoldedShape { name: "weight", .. }), "{error}");
        error.to_string()
    };
    let message = refused(&[5, 3, 2, 2], false, 1);
    assert!(message.contains("[5, 3, 2, 2]") && message.contains("expected [4, in, …]"), "{message}");
    for (shape, transposed, groups) in [
        (&[4][..], false, 1),
        (&[4, 3, 2], false, 3),
        (&[4, 3, 2], false, 0),
        (&[4, 3, 2], true, 1),
        (&[3, 2, 2], true, 2),
    ] {
        refused(shape, transposed, groups);
    }
    let (weight, bias) = (ArrayD::zeros(IxDyn(&[4, 1, 1])), Array1::zeros(3));
    let error =
        state.fold_into_conv(&config, weight.view(), Some(bias.view()), Convolution::default()).unwrap_err();
    assert!(matches!(error, Error::FoldedShape { name: "bias", .. }), "{error}");

    let untracked = BatchNormConfig::new(4).track_running_stats(false);
    let error = BatchNormState::new(&untracked).scale_and_shift(&untracked).unwrap_err();
    assert!(matches!(error, Error::NoRunningStatistics), "{error}");
    let error = state.scale_and_shift(&BatchNormConfig::new(5)).unwrap_err();
    assert!(
        matches!(error, Error::ParameterLength { name: "weight", length: 4, num_features: 5 }),
        "{error}"
    );
}

/// What is folded has no place for an activation. Folded without, it is the input of the activation.
#[test]
fn activations_are_not_forgotten() {
    let relu = BatchNormConfig::new(1).activation(Activation::Relu);
    let mut state = BatchNormState::new(&relu);
    state.bias = Some(Array1::from_elem(1, -1.5));
    let mut bn = BatchNorm::with_state(gpu(), relu.clone(), &state).unwrap();
    bn.eval();
    let x = Array2::<f32>::zeros((1, 1));
    assert_eq!(bn.forward_array(x.view()).unwrap()[[0, 0]], 0.0);
    let weight = Array2::<f32>::ones((1, 1));
    for error in [
        bn.scale_and_shift().unwrap_err(),
        bn.fold_into_linear(weight.view(), None).unwrap_err(),
        bn.fold_into_conv(weight.view(), None, Convolution::default()).unwrap_err(),
        state.scale_and_shift(&relu).unwrap_err(),
    ] {
        assert!(matches!(error, Error::FoldedActivation { activation: Activation::Relu }), "{error}");
        assert!(error.to_string().contains("relu"), "{error}");
    }
    let folded = state.fold_into_linear(&relu.activation(Activation::Identity), weight.view(), None).unwrap();
    assert_eq!(folded.bias[0], -1.5);
    assert_eq!(Activation::Relu.value(f64::from(folded.bias[0])), 0.0);
}
