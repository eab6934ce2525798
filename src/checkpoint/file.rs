//! Reading a safetensors file whole, and writing one whole or not at all.

use super::Checkpoint;
use crate::error::{BadCheckpoint, Error, Result};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorView};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// The longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// A tensor as it lies in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    /// The type of its elements.
    pub dtype: Dtype,
    /// The sizes of its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Its elements, row-major and little-endian.
    pub data: Vec<u8>,
}

impl Checkpoint {
    /// Reads a safetensors file.
    ///
    /// # Errors
    /// [`Error::ReadCheckpoint`]; [`Error::BadCheckpoint`] when it is no safetensors file, or a damaged one.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let read = |source| Error::ReadCheckpoint { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(read)?;
        Self::read_from(file).map_err(|error| match error {
            Failure::Read(source) => read(source),
            Failure::Format(source) => Error::BadCheckpoint { path: path.to_owned(), source },
        })
    }

    /// Reads no more than the header announces. (`SafeTensors::deserialize` wants all of the file, and adds
    /// up the sizes in its header without regard to overflow.)
    fn read_from(mut file: impl Read) -> Result<Self, Failure> {
        let length = part(&mut file, 8)?;
        let found = length.len();
        let length = <[u8; 8]>::try_from(length).map_err(|_| BadCheckpoint::Short { found })?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(BadCheckpoint::LongHeader { length }.into());
        }
        let header = part(&mut file, length)?;
        if header.len() as u64 != length {
            return Err(BadCheckpoint::CutHeader { length, found: header.len() }.into());
        }
        let header: Metadata = serde_json::from_slice(&header).map_err(BadCheckpoint::Header)?;
        let length = header.data_len() as u64;

        // One after the other without gaps: `Metadata` has checked that.
        let mut tensors = BTreeMap::new();
        let mut begin = 0;
        for name in header.offset_keys() {
            let Some(info) = header.info(&name) else { continue };
            let (from, to) = info.data_offsets;
            let data = part(&mut file, to.saturating_sub(from) as u64)?;
            begin += data.len() as u64;
            if begin != to as u64 {
                return Err(BadCheckpoint::CutData { length, found: begin }.into());
            }
            tensors.insert(name, StoredTensor { dtype: info.dtype, shape: info.shape.clone(), data });
        }
        if !part(&mut file, 1)?.is_empty() {
            return Err(BadCheckpoint::Surplus { length }.into());
        }
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { tensors, metadata })
    }

    /// Writes a safetensors file, all of it or nothing; a file that is there is replaced.
    ///
    /// # Errors
    /// [`Error::WriteCheckpoint`]: then a file that was there is as it was.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let error = |source| Error::WriteCheckpoint { path: path.to_owned(), source };
        let mut views = Vec::new();
        for (name, StoredTensor { dtype, shape, data }) in &self.tensors {
            let view = TensorView::new(*dtype, shape.clone(), data);
            views.push((name, view.map_err(|reason| error(io::Error::other(reason)))?));
        }
        let metadata = (!self.metadata.is_empty()).then(|| self.metadata.clone().into_iter().collect());
        let bytes =
            safetensors::serialize(views, metadata).map_err(|reason| error(io::Error::other(reason)))?;
        crate::files::replace(path, &bytes).map_err(error)
    }
}

/// The next `length` bytes, or fewer where the file ends before.
fn part(file: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Format(#[from] BadCheckpoint),
}
