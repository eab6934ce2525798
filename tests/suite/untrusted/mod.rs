//! Files that nobody has checked: they are read, or refused with an error, and never more than that.

mod mutation;
mod targets;

use mutation::{Mutator, read_damaged};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::fs;
use wgpu_batchnorm::kernels::VectorWidth;
use wgpu_batchnorm::{BatchNormConfig, BatchNormState, Checkpoint, Direction, StateNames, Tuning, Tunings};

/// Returns small checkpoints: layers by several names, tensors of every width, no tensors.
fn checkpoints() -> Vec<Vec<u8>> {
    let state = BatchNormState::new(&BatchNormConfig::new(3));
    let mut file = Checkpoint::new();
    for names in [
        StateNames::pytorch("layer.bn."),
        StateNames::pytorch(""),
        StateNames::keras("keras/"),
        StateNames::flax("params.", "batch_stats."),
    ] {
        file.insert(names, &state).unwrap();
    }
    let data: Vec<u8> = (0..24).collect();
    let of = |dtype: Dtype| TensorView::new(dtype, vec![3], &data[..3 * dtype.bitsize() / 8]).unwrap();
    let mut tensors: Vec<(String, TensorView<'_>)> = [Dtype::F64, Dtype::F16, Dtype::BF16, Dtype::F32]
        .into_iter()
        .zip(["weight", "bias", "running_mean", "running_var"])
        .map(|(dtype, name)| (format!("layer.bn.{name}"), of(dtype)))
        .collect();
    let count = |dtype, bytes| TensorView::new(dtype, Vec::new(), &data[..bytes]).unwrap();
    tensors.push(("layer.bn.num_batches_tracked".to_owned(), count(Dtype::U8, 1)));
    tensors.push(("num_batches_tracked".to_owned(), count(Dtype::F64, 8)));
    tensors.push(("empty".to_owned(), TensorView::new(Dtype::F32, vec![0, 3], &[]).unwrap()));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    vec![
        file.to_bytes().unwrap(),
        safetensors::serialize(tensors, Some(metadata)).unwrap(),
        Checkpoint::new().to_bytes().unwrap(),
    ]
}

#[test]
fn damaged_checkpoints() {
    read_damaged("untrusted::damaged_checkpoints", &checkpoints(), Mutator::safetensors, targets::checkpoint);
}

#[test]
fn damaged_tunings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tunings");
    let profile = targets::profile();
    let mut tunings = Tunings::new(&profile);
    for (problem, config, training) in targets::passes() {
        for direction in [Direction::Forward, Direction::Backward] {
            let tuning = Tuning::new(&problem, VectorWidth::Scalar, &profile);
            tunings.insert(&problem, &config, training.into(), direction, tuning);
        }
    }
    tunings.save(&path).unwrap();
    let files = [fs::read(&path).unwrap()];
    read_damaged("untrusted::damaged_tunings", &files, Mutator::text, targets::tunings);
}
