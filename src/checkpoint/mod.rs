//! Loads and saves parameters and running statistics in safetensors files, under PyTorch's names or others.
//!
//! ```no_run
//! use wgpu_batchnorm::{BatchNorm, BatchNormConfig, Checkpoint, Gpu};
//!
//! let gpu = Gpu::new()?;
//! let mut bn = BatchNorm::new(&gpu, BatchNormConfig::new(64))?;
//! let mut file = Checkpoint::read("resnet18.safetensors")?;
//! bn.load_state_dict(&file, "layer1.0.bn1.")?;            // layer1.0.bn1.weight, …
//!
//! // … training …
//! bn.state_dict(&mut file, "layer1.0.bn1.")?;             // what else the file has stays in it
//! file.write("trained.safetensors")?;
//! # Ok::<(), wgpu_batchnorm::Error>(())
//! ```

mod file;
mod names;
mod write;

pub use crate::error::BadCheckpoint;
pub use file::StoredTensor;
pub use names::StateNames;
#[cfg(feature = "internals")]
pub(crate) use write::write_to;

use crate::config::BatchNormConfig;
use crate::error::{Error, Result};
use crate::layer::BatchNorm;
use crate::state::BatchNormState;
use half::{bf16, f16};
use ndarray::Array1;
use safetensors::Dtype;
use std::collections::BTreeMap;

/// The tensors of a safetensors file, in memory. Tensors that belong to no batch norm stay unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    tensors: BTreeMap<String, StoredTensor>,
    metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Creates a checkpoint without tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns a tensor as stored in the file.
    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// Returns a string of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Returns the state of a batch norm with the options `config`. Looks up the tensors that such a layer keeps,
    /// under `names`. Converts f16, bf16 and f64 to f32, rounded to nearest even.
    ///
    /// `num_batches_tracked` may be missing, as in old files and in other conventions. It is then `None`, and
    /// [`BatchNorm::load_state_dict`] keeps the layer's count.
    ///
    /// # Errors
    /// - [`Error::InvalidConfig`] if an option is out of range.
    /// - [`Error::MissingTensor`] if the layer needs a tensor that the checkpoint lacks.
    /// - [`Error::SurplusTensor`] if the checkpoint has a tensor that a layer with these options does not keep, as in
    ///   PyTorch with `strict=True`.
    /// - [`Error::TensorShape`] if a tensor does not have one value per channel, or the count is not a scalar.
    /// - [`Error::TensorType`] if a tensor does not hold floats, or the count is not an integer.
    /// - [`Error::TensorCount`] if the count is negative.
    ///
    /// All except `InvalidConfig` name the tensor.
    pub fn state(&self, names: impl Into<StateNames>, config: &BatchNormConfig) -> Result<BatchNormState> {
        config.validate()?;
        let StateNames { weight, bias, running_mean, running_var, num_batches_tracked } = names.into();
        let (affine, tracked) =
            ((config.affine, "affine"), (config.track_running_stats, "track_running_stats"));
        let vector = |name: &str, (wanted, option): (bool, &'static str)| {
            let found = self.tensors.get(name);
            match (found, wanted) {
                (None, false) => Ok(None),
                (Some(_), false) => Err(Error::SurplusTensor { tensor: name.to_owned(), option }),
                (None, true) => Err(Error::MissingTensor {
                    tensor: name.to_owned(),
                    found: self.names().map(str::to_owned).collect(),
                }),
                (Some(tensor), true) => floats(name, tensor, config.num_features).map(Some),
            }
        };
        let count = num_batches_tracked.and_then(|name| self.tensors.get(&name).map(|tensor| (name, tensor)));
        let num_batches_tracked = match (count, config.track_running_stats) {
            (None, _) => None,
            (Some((tensor, _)), false) => return Err(Error::SurplusTensor { tensor, option: tracked.1 }),
            (Some((name, tensor)), true) => Some(count_of(&name, tensor)?),
        };
        Ok(BatchNormState {
            weight: vector(&weight, affine)?,
            bias: vector(&bias, affine)?,
            running_mean: vector(&running_mean, tracked)?,
            running_var: vector(&running_var, tracked)?,
            num_batches_tracked,
        })
    }

    /// Inserts a state under `names`, vectors as F32 and the count as I64. Replaces tensors of these names. Omits a
    /// count without a name.
    ///
    /// # Errors
    /// [`Error::TensorCount`] if `num_batches_tracked` does not fit in an I64. Nothing is inserted then.
    pub fn insert(&mut self, names: impl Into<StateNames>, state: &BatchNormState) -> Result<()> {
        let StateNames { weight, bias, running_mean, running_var, num_batches_tracked } = names.into();
        let count = num_batches_tracked.zip(state.num_batches_tracked).map(|(name, count)| {
            let signed = i64::try_from(count);
            let signed =
                signed.map_err(|_| Error::TensorCount { tensor: name.clone(), count: count.into() })?;
            Ok::<_, Error>((name, signed))
        });
        if let Some((name, count)) = count.transpose()? {
            let data = count.to_le_bytes().to_vec();
            self.tensors.insert(name, StoredTensor { dtype: Dtype::I64, shape: Vec::new(), data });
        }
        let vectors = [
            (weight, &state.weight),
            (bias, &state.bias),
            (running_mean, &state.running_mean),
            (running_var, &state.running_var),
        ];
        for (name, vector) in vectors {
            if let Some(vector) = vector {
                let data = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                self.tensors
                    .insert(name, StoredTensor { dtype: Dtype::F32, shape: vec![vector.len()], data });
            }
        }
        Ok(())
    }
}

/// Converts a tensor to a vector of one f32 per channel.
fn floats(name: &str, tensor: &StoredTensor, num_features: usize) -> Result<Array1<f32>> {
    if tensor.shape != [num_features] {
        return Err(Error::TensorShape {
            tensor: name.to_owned(),
            shape: tensor.shape.clone(),
            expected: format!("[{num_features}]: one value per channel"),
        });
    }
    fn values<const BYTES: usize>(data: &[u8], value: impl Fn([u8; BYTES]) -> f32) -> Array1<f32> {
        data.as_chunks().0.iter().map(|bytes| value(*bytes)).collect()
    }
    match tensor.dtype {
        Dtype::F32 => Ok(values(&tensor.data, f32::from_le_bytes)),
        Dtype::F64 => Ok(values(&tensor.data, |bytes| f64::from_le_bytes(bytes) as f32)),
        Dtype::F16 => Ok(values(&tensor.data, |bytes| f16::from_le_bytes(bytes).to_f32())),
        Dtype::BF16 => Ok(values(&tensor.data, |bytes| bf16::from_le_bytes(bytes).to_f32())),
        dtype => Err(Error::TensorType { tensor: name.to_owned(), dtype, expected: "F32, F16, BF16 or F64" }),
    }
}

/// Converts a scalar tensor to a count of batches.
fn count_of(name: &str, tensor: &StoredTensor) -> Result<u64> {
    let shape = || Error::TensorShape {
        tensor: name.to_owned(),
        shape: tensor.shape.clone(),
        expected: "a scalar, [] or [1]".to_owned(),
    };
    if !matches!(tensor.shape[..], [] | [1]) {
        return Err(shape());
    }
    let data = tensor.data.as_slice();
    let count = match tensor.dtype {
        Dtype::I64 => data.try_into().map(i64::from_le_bytes).map(i128::from),
        Dtype::U64 => data.try_into().map(u64::from_le_bytes).map(i128::from),
        Dtype::I32 => data.try_into().map(i32::from_le_bytes).map(i128::from),
        dtype => {
            return Err(Error::TensorType { tensor: name.to_owned(), dtype, expected: "I64, U64 or I32" });
        }
    };
    let count = count.map_err(|_| shape())?;
    u64::try_from(count).map_err(|_| Error::TensorCount { tensor: name.to_owned(), count })
}

impl BatchNorm {
    /// Replaces parameters and running statistics with the tensors of a checkpoint under `names`. `names` is a prefix
    /// such as `"layer1.0.bn1."` for PyTorch's names, or [`StateNames`]. If `num_batches_tracked` is missing, the layer
    /// keeps its count, as in PyTorch.
    ///
    /// # Errors
    /// As [`Checkpoint::state`], and [`Error::Readback`]. Nothing is replaced then.
    pub fn load_state_dict(&mut self, checkpoint: &Checkpoint, names: impl Into<StateNames>) -> Result<()> {
        let mut state = checkpoint.state(names, self.config())?;
        if self.config().track_running_stats && state.num_batches_tracked.is_none() {
            state.num_batches_tracked = self.state()?.num_batches_tracked;
        }
        self.load_state(&state)
    }

    /// Inserts parameters and running statistics into a checkpoint, as PyTorch's `state_dict(destination, prefix)`
    /// does.
    ///
    /// # Errors
    /// As [`Checkpoint::insert`], and [`Error::Readback`]. Nothing is inserted then.
    pub fn state_dict(&self, checkpoint: &mut Checkpoint, names: impl Into<StateNames>) -> Result<()> {
        checkpoint.insert(names, &self.state()?)
    }
}
