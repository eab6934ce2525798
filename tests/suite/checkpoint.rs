//! Checkpoints, against a file that PyTorch wrote (tests/networks/generate.py).

use crate::fold::{array, file};
use crate::support::gpu;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::cell::Cell;
use std::fs;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::rc::Rc;
use wgpu_batchnorm::checkpoint::{BadCheckpoint, CheckpointReader, StoredTensor};
use wgpu_batchnorm::half::{bf16, f16};
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

#[test]
fn counts_are_whole_numbers_of_any_type() {
    let of = |dtype, shape: &[usize], data: &[u8]| file_of(&[("count", dtype, shape, data)]).count("count");
    for shape in [&[][..], &[1]] {
        let counts = [
            of(Dtype::I64, shape, &100i64.to_le_bytes()),
            of(Dtype::U64, shape, &100u64.to_le_bytes()),
            of(Dtype::I32, shape, &100i32.to_le_bytes()),
            of(Dtype::U32, shape, &100u32.to_le_bytes()),
            of(Dtype::I16, shape, &100i16.to_le_bytes()),
            of(Dtype::U16, shape, &100u16.to_le_bytes()),
            of(Dtype::I8, shape, &100i8.to_le_bytes()),
            of(Dtype::U8, shape, &[100]),
            of(Dtype::F64, shape, &100f64.to_le_bytes()),
            of(Dtype::F32, shape, &100f32.to_le_bytes()),
            of(Dtype::F16, shape, &f16::from_f32(100.0).to_le_bytes()),
            of(Dtype::BF16, shape, &bf16::from_f32(100.0).to_le_bytes()),
        ];
        for count in counts {
            assert_eq!(count.unwrap(), Some(100));
        }
    }
    let most = [of(Dtype::U64, &[], &[255; 8]), of(Dtype::F64, &[], &((1u64 << 53) as f64).to_le_bytes())];
    assert_eq!(most.map(Result::unwrap), [Some(u64::MAX), Some(1 << 53)]);
    assert_eq!(of(Dtype::U8, &[], &[200]).unwrap(), Some(200), "no sign");
    assert_eq!(of(Dtype::F32, &[], &(-0f32).to_le_bytes()).unwrap(), Some(0));
    assert_eq!(file_of(&[]).count("count").unwrap(), None);
    for (count, text) in [
        (of(Dtype::I8, &[], &[0xff]), "-1"),
        (of(Dtype::I16, &[], &(-300i16).to_le_bytes()), "-300"),
        (of(Dtype::F32, &[], &(-1f32).to_le_bytes()), "-1"),
        (of(Dtype::F16, &[], &f16::from_f32(0.5).to_le_bytes()), "0.5"),
        (of(Dtype::F64, &[], &f64::NAN.to_le_bytes()), "NaN"),
        (of(Dtype::F32, &[], &f32::INFINITY.to_le_bytes()), "inf"),
        (of(Dtype::F64, &[], &2f64.powi(64).to_le_bytes()), "18446744073709552000"),
    ] {
        let error = count.unwrap_err();
        assert!(matches!(error, Error::TensorCount { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("count is {text}:")), "{error}");
    }
    for dtype in [Dtype::BOOL, Dtype::F8_E4M3] {
        let error = of(dtype, &[], &[1]).unwrap_err();
        assert!(
            matches!(error, Error::TensorType { .. }) && error.to_string().contains("integer"),
            "{error}"
        );
    }
    assert!(matches!(of(Dtype::U8, &[0], &[]), Err(Error::TensorShape { .. })));
}

#[test]
fn floats_are_rounded_once() {
    // f64 beyond f32 is infinite, and NaN stays NaN, as in PyTorch's `load_state_dict`.
    let wide = [0.1, 1e300, -1e300, f64::NAN, 1.0 + f64::from(f32::EPSILON) * 0.5];
    let data: Vec<u8> = wide.iter().flat_map(|value| value.to_le_bytes()).collect();
    let file = file_of(&[("wide", Dtype::F64, &[5], &data), ("empty", Dtype::F32, &[0, usize::MAX, 2], &[])]);
    let found = file.vector("wide", 5).unwrap().unwrap();
    assert_eq!(found.as_slice().unwrap()[..3], [0.1f32, f32::INFINITY, f32::NEG_INFINITY]);
    assert!(found[3].is_nan() && found[4] == 1.0);
    assert_eq!(file.array("wide").unwrap().unwrap().shape(), [5]);
    assert!(matches!(file.array("empty"), Err(Error::TensorShape { .. })));
    assert!(matches!(file.vector("wide", 4), Err(Error::TensorShape { .. })));
    assert_eq!((file.array("none").unwrap(), file.vector("none", 5).unwrap()), (None, None));
}

#[test]
fn a_wrong_prefix_is_told_the_right_one() {
    let config = BatchNormConfig::new(2);
    let state = BatchNormState::new(&config);
    let mut file = Checkpoint::new();
    for prefix in ["a.", "b.", "c.", "d.", "model.bn1."] {
        file.insert(prefix, &state).unwrap();
    }
    let refused = |prefix: &str| file.state(prefix, &config).unwrap_err().to_string();
    let begin = "the checkpoint has no tensor bn1.weight, but model.bn1.weight: check the prefix";
    assert!(refused("bn1.").starts_with(begin), "{}", refused("bn1."));
    assert!(refused("bn1").starts_with(begin), "{}", refused("bn1"));
    let all = refused("");
    assert!(
        all.contains("no tensor weight, but a.weight, b.weight, c.weight, d.weight, model.bn1.weight:"),
        "{all}"
    );
    let longer = refused("module.model.bn1.");
    assert!(longer.contains("no tensor module.model.bn1.weight, but model.bn1.weight: check"), "{longer}");
    let other = refused("bn7.");
    assert!(other.contains("no tensor bn7.weight: check the prefix; it has a.bias"), "{other}");
}

#[test]
fn a_missing_dot_is_forgiven() {
    let mut file = file("checkpoint.safetensors");
    let config = BatchNormConfig::new(6);
    let state = file.state("layer1.0.bn1.", &config).unwrap();
    assert_eq!(file.state("layer1.0.bn1", &config).unwrap(), state);
    assert!(state.num_batches_tracked.is_some());

    // Saving replaces what loading found, and is otherwise PyTorch's.
    let changed = BatchNormState { num_batches_tracked: Some(8), ..state.clone() };
    let count = file.names().count();
    file.insert("layer1.0.bn1", &changed).unwrap();
    assert_eq!((file.names().count(), file.state("layer1.0.bn1.", &config).unwrap()), (count, changed));
    file.insert("new", &state).unwrap();
    assert!(file.tensor("newweight").is_some() && file.tensor("new.weight").is_none());
    assert_eq!(file.state("new", &config).unwrap(), state);

    // With both in the file, the prefix means what it says; so it does after any other sign.
    file.insert("new.", &BatchNormState::new(&config)).unwrap();
    assert_eq!(file.state("new", &config).unwrap(), state);
    file.insert("both_.", &state).unwrap();
    assert!(
        matches!(file.state("both_", &config), Err(Error::MissingTensor { tensor, .. }) if tensor == "both_weight")
    );
    // One tensor without the dot is enough.
    let mut one = file_of(&[("bnbias", Dtype::F32, &[6], &[0; 24])]);
    one.insert("bn.", &state).unwrap();
    assert!(
        matches!(one.state("bn", &config), Err(Error::MissingTensor { tensor, .. }) if tensor == "bnweight")
    );
}

#[test]
fn files_of_other_formats_are_named() {
    let zip = |entry: &str| {
        let mut bytes = b"PK\x03\x04\0\0\x08\x08".to_vec();
        bytes.resize(26, 0);
        bytes.extend((entry.len() as u16).to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(entry.as_bytes());
        bytes.resize(5_000, 7);
        bytes
    };
    let torch = "safetensors.torch.save_file(model.state_dict(), \"model.safetensors\")";
    // The zip without a version or flags would be a header of 67 MB.
    let bare = [&b"PK\x03\x04\0\0\0\0"[..], &[7; 200]].concat();
    for (bytes, words) in [
        (zip("archive/data.pkl"), ["torch.save", torch]),
        (zip(&"long/".repeat(40)), ["torch.save", torch]),
        (zip("arr_0.npy"), [".npz", "safetensors.numpy.save_file(dict(numpy.load("]),
        (bare, ["torch.save", torch]),
        (b"PK\x03\x04".to_vec(), ["zip file", torch]),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec(), ["old torch.save", torch]),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.".to_vec(), ["pickle", torch]),
        (b"\x93NUMPY\x01\0v\0{'descr': '<f4'".to_vec(), [".npy", "numpy.load"]),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0".to_vec(), ["HDF5", "Keras"]),
        (b"GGUF\x03\0\0\0\x23\x01\0\0".to_vec(), ["GGUF", "made of"]),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d".to_vec(), ["Git LFS", "git lfs pull"]),
    ] {
        for error in [
            Checkpoint::from_bytes(&bytes).unwrap_err(),
            CheckpointReader::new(Cursor::new(&bytes)).unwrap_err(),
        ] {
            assert!(
                matches!(
                    &error,
                    Error::BadCheckpoint { path: None, source: BadCheckpoint::OtherFormat { .. } }
                ),
                "{error}"
            );
            assert!(error.to_string().starts_with("the checkpoint is no safetensors file"), "{error}");
            let text = cause(&error);
            assert!(text.starts_with("it is a"), "{text}");
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
    // A header of 640 bytes begins like a pickle, and one of 384 with its first byte. Damaged, they are neither.
    for length in [640u64, 384, 0x0280] {
        let error = Checkpoint::from_bytes(&length.to_le_bytes()).unwrap_err();
        assert!(cause(&error).contains("cut off"), "{error}");
    }
}

/// Counts the bytes that are read of a file.
struct Counting {
    file: Cursor<Vec<u8>>,
    read: Rc<Cell<u64>>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.read.set(self.read.get() + bytes as u64);
        Ok(bytes)
    }
}

impl Seek for Counting {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn a_reader_reads_only_what_is_asked_for() {
    let mut file = file("checkpoint.safetensors");
    let config = BatchNormConfig::new(6);
    let state = file.state("layer1.0.bn1.", &config).unwrap();
    let other = BatchNormState::new(&BatchNormConfig::new(100_000));
    file.insert("large.", &other).unwrap();
    let bytes = file.to_bytes().unwrap();
    assert!(bytes.len() > 1_600_000);
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap());

    let read = Rc::new(Cell::new(0));
    let reader = Counting { file: Cursor::new(bytes), read: read.clone() };
    let reader = CheckpointReader::new(reader).unwrap();
    let within = |range: Range<u64>| assert!(range.contains(&read.get()), "{} not in {range:?}", read.get());
    within(header..header + 200);
    assert!(reader.names().eq(file.names()));
    assert_eq!(reader.info("large.weight"), Some((Dtype::F32, &[100_000][..])));
    assert_eq!(reader.info("none"), None);
    within(header..header + 200);

    let before = read.replace(0);
    let mut bn = BatchNorm::new(gpu(), config.clone()).unwrap();
    bn.load_state_dict(&reader, "layer1.0.bn1").unwrap();
    assert_eq!((read.replace(0), bn.state().unwrap()), (4 * 24 + 8, state.clone()), "{before}");
    assert_eq!(reader.state("layer1.0.bn1.", &config).unwrap(), state);

    // What does not fit is refused by the header alone.
    read.set(0);
    let refused = bn.load_state_dict(&reader, "large.").unwrap_err();
    assert!(matches!(refused, Error::TensorShape { .. }), "{refused}");
    let refused = reader.state("larger.", &config).unwrap_err();
    assert!(matches!(refused, Error::MissingTensor { .. }), "{refused}");
    assert!(read.get() <= 8, "{} bytes", read.get());
    for name in file.names() {
        assert_eq!(reader.tensor(name).unwrap().as_ref(), file.tensor(name), "{name}");
    }
    assert!(reader.tensor("none").unwrap().is_none());
}

#[test]
fn a_file_that_changes_while_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let original = file("checkpoint.safetensors");
    original.write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let reader = Checkpoint::open(&path).unwrap();
    let name = "layer1.0.bn1.weight";
    assert_eq!(reader.tensor(name).unwrap().as_ref(), original.tensor(name));
    assert_eq!(reader.metadata("none"), None);
    for other in [&bytes[..bytes.len() - 1], &bytes[..100], &[&bytes[..], b"x"].concat(), b""] {
        fs::write(&path, other).unwrap();
        let error = reader.tensor(name).unwrap_err();
        let text = format!("it had {} bytes when it was opened, and has {} now", bytes.len(), other.len());
        assert!(cause(&error).contains(&text) && cause(&error).contains("open it again"), "{error}");
        assert!(matches!(error, Error::BadCheckpoint { path: Some(found), .. } if found == path));
    }
    // The same length again: the reader goes on.
    fs::write(&path, &bytes).unwrap();
    assert_eq!(reader.tensor(name).unwrap().as_ref(), original.tensor(name));
    // Replaced by another file: the reader stays with the one that it has.
    if cfg!(unix) {
        Checkpoint::new().write(&path).unwrap();
        assert_eq!(reader.tensor(name).unwrap().as_ref(), original.tensor(name));
        assert_eq!(Checkpoint::open(&path).unwrap().names().count(), 0);
    }
    let error = Checkpoint::open(folder.path().join("none")).unwrap_err();
    assert!(matches!(error, Error::ReadCheckpoint { path: Some(_), .. }), "{error}");
}

#[test]
fn damaged_files_are_not_opened() {
    let good = file("checkpoint.safetensors").to_bytes().unwrap();
    for (bytes, word) in [
        (&good[..5], "5 of the 8 bytes"),
        (&good[..100], "cut off"),
        (&good[..good.len() - 1], "cut off"),
        (&[&good[..], b"x"].concat(), "goes on"),
        (&u64::MAX.to_le_bytes(), "18446744073709551615"),
    ] {
        let error = CheckpointReader::new(Cursor::new(bytes)).unwrap_err();
        assert!(matches!(error, Error::BadCheckpoint { path: None, .. }), "{error}");
        assert!(cause(&error).contains(word), "{error}: {} lacks {word}", cause(&error));
        assert_eq!(cause(&Checkpoint::from_bytes(bytes).unwrap_err()), cause(&error));
    }
}

#[test]
fn bytes_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let original = file("checkpoint.safetensors");
    original.write(&path).unwrap();
    let bytes = original.to_bytes().unwrap();
    assert_eq!(fs::read(&path).unwrap().len(), bytes.len());
    assert_eq!(Checkpoint::from_bytes(&bytes).unwrap(), original);
    assert_eq!(Checkpoint::from_bytes(&Checkpoint::new().to_bytes().unwrap()).unwrap(), Checkpoint::new());
}
