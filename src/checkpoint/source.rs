//! Where a layer's tensors come from.

use super::{Checkpoint, CheckpointReader};
use crate::error::Result;
use safetensors::Dtype;
use std::borrow::Cow;
use std::io::{Read, Seek};

/// Tensors that a layer can be loaded from: a [`Checkpoint`], which holds them in memory, or a [`CheckpointReader`],
/// which reads each one when it is asked for.
pub trait Tensors: sealed::Lookup {}

impl Tensors for Checkpoint {}
impl<R: Read + Seek> Tensors for CheckpointReader<R> {}

impl sealed::Lookup for Checkpoint {
    fn all_names(&self) -> Vec<String> {
        self.names().map(str::to_owned).collect()
    }

    fn info(&self, name: &str) -> Option<(Dtype, &[usize])> {
        self.tensors.get(name).map(|tensor| (tensor.dtype, tensor.shape.as_slice()))
    }

    fn data(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        Ok(self.tensors.get(name).map_or(&[][..], |tensor| &tensor.data).into())
    }
}

impl<R: Read + Seek> sealed::Lookup for CheckpointReader<R> {
    fn all_names(&self) -> Vec<String> {
        self.names().map(str::to_owned).collect()
    }

    fn info(&self, name: &str) -> Option<(Dtype, &[usize])> {
        self.info(name)
    }

    fn data(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        Ok(self.tensor(name)?.map(|tensor| tensor.data).unwrap_or_default().into())
    }
}

pub(super) mod sealed {
    use super::{Cow, Dtype, Result};

    /// What loading needs of tensors.
    pub trait Lookup {
        /// Returns the names of all tensors, sorted.
        fn all_names(&self) -> Vec<String>;

        /// Returns element type and shape of a tensor. Reads nothing.
        fn info(&self, name: &str) -> Option<(Dtype, &[usize])>;

        /// Returns the elements of a tensor, or none if it is not there.
        fn data(&self, name: &str) -> Result<Cow<'_, [u8]>>;
    }
}
