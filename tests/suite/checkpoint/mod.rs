//! Checkpoints, against a file that PyTorch wrote (tests/networks/generate.py).

mod foreign;
mod reader;

use crate::fold::{array, file};
use crate::support::gpu;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::fs;
use wgpu_batchnorm::checkpoint::StoredTensor;
use wgpu_batchnorm::{BatchNorm, BatchNormConfig, BatchNormState, Checkpoint, Error, StateNames, Tensor};

/// The batch norms of the file: name, channels, and the type of its tensors.
const LAYERS: [(&str, usize, Dtype); 4] = [
    ("bn1", 3, Dtype::F16),
    ("layer1.0.bn1", 6, Dtype::F32),
    ("layer1.0.bn2", 6, Dtype::F64),
    ("layer1.0.downsample.1", 6, Dtype::BF16),
];

#[test]
fn pytorch_layers_of_every_type_compute_pytorchs_numbers() {
    let file = file("checkpoint.safetensors");
    for (name, channels, dtype) in LAYERS {
        let prefix = format!("{name}.");
        assert_eq!(file.tensor(&format!("{prefix}weight")).unwrap().dtype, dtype);
        let mut bn = BatchNorm::new(gpu(), BatchNormConfig::new(channels)).unwrap();
        bn.load_state_dict(&file, prefix.as_str()).unwrap();
        bn.eval();
        let [x, exact] = ["x", "y"].map(|tensor| array(&file, &format!("test.{name}.{tensor}")).unwrap());
        let x = Tensor::from_array(gpu(), x.mapv(|value| value as f32).view()).unwrap();
        let y = bn.forward(&x).unwrap().to_array().unwrap();
        let largest = exact.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        for (found, exact) in y.iter().zip(&exact) {
            // The bar of the golden cases; f64 parameters are rounded to f32 first.
            let error = (f64::from(*found) - exact).abs() / largest;
            assert!(error <= 1e-6, "{name}: {found}, exact {exact}");
        }
    }
}

#[test]
fn a_missing_count_stays_as_it_is() {
    let file = file("checkpoint.safetensors");
    assert!(file.tensor("layer1.0.bn1.num_batches_tracked").is_some());
    assert!(file.tensor("layer1.0.bn2.num_batches_tracked").is_none());
    let config = BatchNormConfig::new(6);
    let state = BatchNormState { num_batches_tracked: Some(7), ..BatchNormState::new(&config) };
    let mut bn = BatchNorm::with_state(gpu(), config.clone(), &state).unwrap();
    bn.load_state_dict(&file, "layer1.0.bn2.").unwrap();
    let loaded = bn.state().unwrap();
    assert_eq!(loaded.num_batches_tracked, Some(7));
    assert_ne!(loaded.weight, state.weight);

    bn.load_state_dict(&file, "layer1.0.bn1.").unwrap();
    let count = &file.tensor("layer1.0.bn1.num_batches_tracked").unwrap().data;
    let count = u64::from_le_bytes(count.as_slice().try_into().unwrap());
    assert_eq!(bn.state().unwrap().num_batches_tracked, Some(count));
    assert_ne!(count, 7);
}

#[test]
fn what_is_written_is_what_was_read() {
    let original = file("checkpoint.safetensors");
    let mut copy = original.clone();
    let config = BatchNormConfig::new(6);
    let mut bn = BatchNorm::new(gpu(), config.clone()).unwrap();
    bn.load_state_dict(&original, "layer1.0.bn1.").unwrap();
    bn.state_dict(&mut copy, "layer1.0.bn1.").unwrap();
    // f32 is written as it was read, so nothing has changed, in the other layers either.
    assert_eq!(copy, original);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trained.safetensors");
    bn.state_dict(&mut copy, "copied.").unwrap();
    copy.write(&path).unwrap();
    let again = Checkpoint::read(&path).unwrap();
    assert_eq!(again, copy);
    assert_eq!(again.names().count(), original.names().count() + 5);
    assert_eq!(again.state("copied.", &config).unwrap(), bn.state().unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no file is left beside it");

    let nowhere = path.join("below a file");
    let error = copy.write(&nowhere).unwrap_err();
    assert!(matches!(error, Error::WriteCheckpoint { .. }), "{error}");
}

#[test]
fn other_conventions_have_other_names() {
    let config = BatchNormConfig::new(3);
    let state = file("checkpoint.safetensors").state("bn1.", &config).unwrap();
    for names in [
        StateNames::keras("net/bn/"),
        StateNames::flax("params.bn.", "batch_stats.bn."),
        StateNames::onnx("bn_"),
    ] {
        let mut file = Checkpoint::new();
        file.insert(names.clone(), &state).unwrap();
        assert_eq!(file.names().count(), 4);
        let loaded = file.state(names, &config).unwrap();
        assert_eq!(loaded, BatchNormState { num_batches_tracked: None, ..state.clone() });
    }
    let flax = StateNames::flax("params.bn.", "batch_stats.bn.");
    assert_eq!(
        [flax.weight, flax.bias, flax.running_mean, flax.running_var],
        ["params.bn.scale", "params.bn.bias", "batch_stats.bn.mean", "batch_stats.bn.var"]
    );
    // Keras' default momentum is 0.99. The biased variance of 2 values is half the unbiased one.
    assert!((StateNames::momentum_from_decay(0.99) - 0.01).abs() < 1e-12);
    assert_eq!([1, 2, 5].map(StateNames::unbiased_factor), [1.0, 2.0, 1.25]);
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_changes_nothing() {
    let good = file("checkpoint.safetensors");
    let config = BatchNormConfig::new(6);
    let prefix = "layer1.0.bn1.";
    let mut bn = BatchNorm::new(gpu(), config.clone()).unwrap();
    let before = bn.state().unwrap();
    let mut refused = |file: &Checkpoint, prefix: &str, words: &[&str]| {
        let error = bn.load_state_dict(file, prefix).unwrap_err();
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{text} lacks {word}");
        }
        assert_eq!(bn.state().unwrap(), before, "{text}");
        error
    };
    let error = refused(&good, "layer1.0.bn9.", &["layer1.0.bn9.weight", "bn1.bias"]);
    assert!(matches!(error, Error::MissingTensor { .. }));
    assert!(matches!(refused(&Checkpoint::new(), "", &["no tensors"]), Error::MissingTensor { .. }));
    // The first layer has three channels.
    let error = refused(&good, "bn1.", &["bn1.weight", "[3]", "[6]"]);
    assert!(matches!(error, Error::TensorShape { .. }));

    // Returns the file with one tensor replaced.
    let with = |name: &str, dtype: Dtype, shape: &[usize], data: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let tensors = good.names().filter(|other| *other != name).map(|other| {
            let StoredTensor { dtype, shape, data } = good.tensor(other).unwrap();
            (other, *dtype, shape.clone(), data.as_slice())
        });
        let tensors = tensors
            .chain([(name, dtype, shape.to_vec(), data)])
            .map(|(name, dtype, shape, data)| (name, TensorView::new(dtype, shape, data).unwrap()));
        let bytes = safetensors::serialize(tensors, None).unwrap();
        fs::write(&path, bytes).unwrap();
        Checkpoint::read(&path).unwrap()
    };
    let name = "layer1.0.bn1.running_var";
    let error = refused(&with(name, Dtype::I32, &[6], &[0; 24]), prefix, &[name, "I32", "F32"]);
    assert!(matches!(error, Error::TensorType { .. }));
    let error = refused(&with(name, Dtype::F32, &[1, 6], &[0; 24]), prefix, &[name, "[1, 6]"]);
    assert!(matches!(error, Error::TensorShape { .. }));
    let name = "layer1.0.bn1.num_batches_tracked";
    let error = refused(&with(name, Dtype::I64, &[], &(-3i64).to_le_bytes()), prefix, &[name, "-3"]);
    assert!(matches!(error, Error::TensorCount { .. }));
    let error = refused(&with(name, Dtype::BOOL, &[], &[0]), prefix, &[name, "BOOL", "integer"]);
    assert!(matches!(error, Error::TensorType { .. }));
    let error = refused(&with(name, Dtype::F32, &[], &2.5f32.to_le_bytes()), prefix, &[name, "2.5", "whole"]);
    assert!(matches!(error, Error::TensorCount { .. }));
    let error = refused(&with(name, Dtype::I64, &[2], &[0; 16]), prefix, &[name, "[2]", "scalar"]);
    assert!(matches!(error, Error::TensorShape { .. }));
    let counted = refused(&with(name, Dtype::I64, &[1], &[0; 8]), "layer1.0.bn7.", &["bn7"]);
    assert!(matches!(counted, Error::MissingTensor { .. }));

    // The file has parameters and statistics that the layer lacks.
    for (config, option) in [
        (BatchNormConfig::new(6).affine(false), "weight"),
        (BatchNormConfig::new(6).weight(false), "weight"),
        (BatchNormConfig::new(6).bias(false), "bias"),
        (BatchNormConfig::new(6).track_running_stats(false), "track_running_stats"),
    ] {
        let error = good.state(prefix, &config).unwrap_err();
        assert!(matches!(error, Error::SurplusTensor { option: found, .. } if found == option), "{error}");
    }

    // More batches than an I64 counts.
    let state = BatchNormState { num_batches_tracked: Some(u64::MAX), ..BatchNormState::new(&config) };
    let mut file = Checkpoint::new();
    let error = file.insert("bn.", &state).unwrap_err();
    assert!(error.to_string().contains("18446744073709551615"), "{error}");
    assert_eq!(file, Checkpoint::new());
}

/// As PyTorch's `bias=False`, and Keras' `center=False` and `scale=False`, write them.
#[test]
fn layers_with_one_parameter_are_loaded_and_written() {
    let both = BatchNormConfig::new(6);
    let full = file("checkpoint.safetensors").state("layer1.0.bn1.", &both).unwrap();
    for (weight, bias, lost) in [(true, false, "beta"), (false, true, "gamma")] {
        let config = both.clone().weight(weight).bias(bias);
        let state = BatchNormState {
            weight: full.weight.clone().filter(|_| weight),
            bias: full.bias.clone().filter(|_| bias),
            ..full.clone()
        };
        let mut pytorch = Checkpoint::new();
        pytorch.insert("bn.", &state).unwrap();
        let mut bn = BatchNorm::new(gpu(), config.clone()).unwrap();
        bn.load_state_dict(&pytorch, "bn.").unwrap();
        assert_eq!(bn.state().unwrap(), state);
        let mut copy = Checkpoint::new();
        bn.state_dict(&mut copy, "bn.").unwrap();
        assert_eq!((copy.names().count(), copy), (4, pytorch.clone()));

        let mut keras = Checkpoint::new();
        keras.insert(StateNames::keras("bn/"), &state).unwrap();
        assert!(!keras.names().any(|name| name.ends_with(lost)));
        let loaded = keras.state(StateNames::keras("bn/"), &config).unwrap();
        assert_eq!(loaded, BatchNormState { num_batches_tracked: None, ..state });

        // A layer with both needs both.
        let error = pytorch.state("bn.", &both).unwrap_err();
        let missing = if weight { "bn.bias" } else { "bn.weight" };
        assert!(matches!(&error, Error::MissingTensor { tensor, .. } if tensor == missing), "{error}");
        // And a file with both needs a layer with both.
        let mut whole = Checkpoint::new();
        whole.insert("bn.", &full).unwrap();
        let (before, error) = (bn.state().unwrap(), bn.load_state_dict(&whole, "bn.").unwrap_err());
        let option = if weight { "bias" } else { "weight" };
        let words = format!("has bn.{option}, but the layer's option {option} is false");
        assert!(error.to_string().contains(&words), "{error}");
        assert_eq!(bn.state().unwrap(), before);
    }
}

#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let good =
        fs::read(format!("{}/tests/networks/checkpoint.safetensors", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let overflow = {
        let text =
            r#"{"x":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#;
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    };
    for (bytes, word) in [
        (&good[..5], "5 of the 8 bytes"),
        (&good[..100], "cut off"),
        (&good[..header + 8], "cut off"),
        (&good[..good.len() - 1], "cut off"),
        (&[&good[..], b"x"].concat(), "goes on"),
        (&u64::MAX.to_le_bytes(), "18446744073709551615"),
        (b"\x02\0\0\0\0\0\0\0[]", "header"),
        (&overflow, "header"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = Checkpoint::read(&path).unwrap_err();
        assert!(matches!(error, Error::BadCheckpoint { .. }), "{error}");
        assert!(cause(&error).contains(word), "{error}: {} lacks {word}", cause(&error));
    }
    let error = Checkpoint::read(folder.path().join("none")).unwrap_err();
    assert!(matches!(error, Error::ReadCheckpoint { .. }), "{error}");
}

/// Returns what an error says of its cause.
fn cause(error: &Error) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

/// Returns a file with one tensor of each of these names, types, shapes and data.
fn file_of(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Checkpoint {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, shape.to_vec(), data).unwrap()));
    Checkpoint::from_bytes(&safetensors::serialize(views, None).unwrap()).unwrap()
}
