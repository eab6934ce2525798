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
//!
//! # What files may hold
//!
//! This holds for the library and for the command line's `run`.
//!
//! | tensors | types | shape |
//! |---|---|---|
//! | `weight`, `bias`, `running_mean`, `running_var` | F32, F16, BF16, F64 | `[C]`, one value per channel |
//! | `num_batches_tracked` | integers of any width; F32, F16, BF16 and F64 that are whole | `[]` or `[1]` |
//! | `x`, `dy`, `residual` of `run` | F32, F16, BF16; of one file all the same | 2 to 5 dimensions |
//! | others | all of safetensors | any |
//!
//! - **Parameters and statistics** become f32, rounded once to nearest even. An F64 beyond f32 becomes infinite. NaN
//!   and infinities are read as they are.
//! - **A count** is 0 to 2⁶⁴ − 1. It is written as an I64, so only up to 2⁶³ − 1.
//! - **Other tensors** and the metadata stay in a [`Checkpoint`] as they are, and are written with it.
//! - **A layer's tensors** are written as F32 and I64, whatever they were read as.
//! - **Names** are a prefix and PyTorch's names, or [`StateNames`]. The command line has no prefix.
//! - **Large files** need not be read whole: [`Checkpoint::open`].
//! - **Other formats** (torch.save, NumPy, HDF5, GGUF) are refused with an error that says how to convert them, as are
//!   files that are cut off or damaged.

mod convert;
mod file;
mod formats;
mod names;
mod reader;
mod source;
mod write;

pub use crate::error::BadCheckpoint;
pub use file::StoredTensor;
pub use names::StateNames;
pub use reader::CheckpointReader;
pub use source::Tensors;
#[cfg(feature = "internals")]
pub(crate) use write::write_to;

use crate::config::BatchNormConfig;
use crate::error::{Error, Result};
use crate::layer::BatchNorm;
use crate::state::BatchNormState;
use ndarray::{Array1, ArrayD};
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

    /// Takes a tensor out of the checkpoint, without a copy.
    #[cfg(feature = "internals")]
    pub(crate) fn take(&mut self, name: &str) -> Option<StoredTensor> {
        self.tensors.remove(name)
    }

    /// Returns a string of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Returns a tensor of floats as f32. Converts f16, bf16 and f64, rounded to nearest even. Returns `None` if there
    /// is no tensor of this name.
    ///
    /// # Errors
    /// - [`Error::TensorType`] if it does not hold floats.
    /// - [`Error::TensorShape`] if it has no elements, and sizes whose product is beyond any memory.
    pub fn array(&self, name: &str) -> Result<Option<ArrayD<f32>>> {
        convert::array(self, name)
    }

    /// Returns a parameter or running statistic of a layer with `num_features` channels, converted as by
    /// [`array`](Self::array). Returns `None` if there is no tensor of this name.
    ///
    /// # Errors
    /// - [`Error::TensorShape`] if it does not have one value per channel.
    /// - [`Error::TensorType`] if it does not hold floats.
    pub fn vector(&self, name: &str, num_features: usize) -> Result<Option<Array1<f32>>> {
        convert::vector(self, name, num_features)
    }

    /// Returns a count of batches: a scalar of any integer type, or a float that is whole. Returns `None` if there is
    /// no tensor of this name.
    ///
    /// # Errors
    /// - [`Error::TensorShape`] if its shape is neither `[]` nor `[1]`.
    /// - [`Error::TensorType`] if it is not a number.
    /// - [`Error::TensorCount`] if it is negative, not whole, or beyond a u64.
    pub fn count(&self, name: &str) -> Result<Option<u64>> {
        convert::count(self, name)
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
    /// - [`Error::TensorType`] if a tensor does not hold floats, or the count is not a number.
    /// - [`Error::TensorCount`] if the count is negative, not whole, or beyond a u64.
    ///
    /// All except `InvalidConfig` name the tensor.
    pub fn state(&self, names: impl Into<StateNames>, config: &BatchNormConfig) -> Result<BatchNormState> {
        Self::state_of(self, names.into(), config)
    }

    /// Returns the state of a batch norm, from tensors in memory or in a file.
    fn state_of(
        source: &impl Tensors,
        names: StateNames,
        config: &BatchNormConfig,
    ) -> Result<BatchNormState> {
        config.validate()?;
        let StateNames { weight, bias, running_mean, running_var, num_batches_tracked } =
            names.for_loading(|name| source.info(name).is_some());
        let tracked = (config.track_running_stats, "track_running_stats");
        let vector = |name: &str, (wanted, option): (bool, &'static str)| {
            let found = source.info(name);
            match (found, wanted) {
                (None, false) => Ok(None),
                (Some(_), false) => Err(Error::SurplusTensor { tensor: name.to_owned(), option }),
                (None, true) => {
                    Err(Error::MissingTensor { tensor: name.to_owned(), found: source.all_names() })
                }
                (Some(_), true) => convert::vector(source, name, config.num_features),
            }
        };
        let count = num_batches_tracked.filter(|name| source.info(name).is_some());
        let num_batches_tracked = match (count, config.track_running_stats) {
            (None, _) => None,
            (Some(tensor), false) => return Err(Error::SurplusTensor { tensor, option: tracked.1 }),
            (Some(name), true) => convert::count(source, &name)?,
        };
        Ok(BatchNormState {
            weight: vector(&weight, (config.weight, "weight"))?,
            bias: vector(&bias, (config.bias, "bias"))?,
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
        let names = names.into().for_inserting(|name| self.tensors.contains_key(name));
        let StateNames { weight, bias, running_mean, running_var, num_batches_tracked } = names;
        let count = num_batches_tracked.zip(state.num_batches_tracked).map(|(name, count)| {
            let signed = i64::try_from(count);
            let signed =
                signed.map_err(|_| Error::TensorCount { tensor: name.clone(), count: count.to_string() })?;
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

impl BatchNorm {
    /// Replaces parameters and running statistics with the tensors of a checkpoint under `names`. `names` is a prefix
    /// such as `"layer1.0.bn1."` for PyTorch's names, or [`StateNames`]. The checkpoint is in memory, or a
    /// [`CheckpointReader`], of which only these tensors are read. If `num_batches_tracked` is missing, the layer
    /// keeps its count, as in PyTorch.
    ///
    /// # Errors
    /// As [`Checkpoint::state`] and [`CheckpointReader::tensor`], and [`Error::Readback`]. Nothing is replaced then.
    pub fn load_state_dict(&mut self, checkpoint: &impl Tensors, names: impl Into<StateNames>) -> Result<()> {
        let mut state = Checkpoint::state_of(checkpoint, names.into(), self.config())?;
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
