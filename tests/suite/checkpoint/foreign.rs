//! Files as other programs write them: counts, floats and names of many kinds, and files of other formats.

use super::{cause, file_of};
use crate::fold::file;
use safetensors::Dtype;
use std::io::Cursor;
use wgpu_batchnorm::checkpoint::{BadCheckpoint, CheckpointReader};
use wgpu_batchnorm::half::{bf16, f16};
use wgpu_batchnorm::{BatchNormConfig, BatchNormState, Checkpoint, Error};

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
