//! Reads and writes safetensors files. A write replaces the whole file or leaves it unchanged.

use super::Checkpoint;
use super::write::write_to;
use crate::error::{BadCheckpoint, Error, Result};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// Longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// A tensor as stored in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    /// Element type.
    pub dtype: Dtype,
    /// Dimension sizes, outermost first.
    pub shape: Vec<usize>,
    /// Elements, row-major and little-endian.
    pub data: Vec<u8>,
}

impl Checkpoint {
    /// Reads a safetensors file.
    ///
    /// # Errors
    /// - [`Error::ReadCheckpoint`] if the file cannot be read.
    /// - [`Error::BadCheckpoint`] if it is not a safetensors file, or is damaged.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let read = |source| Error::ReadCheckpoint { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(read)?;
        Self::read_from(file).map_err(|error| match error {
            Failure::Read(source) => read(source),
            Failure::Format(source) => Error::BadCheckpoint { path: path.to_owned(), source },
        })
    }

    /// Reads the bytes that the header announces, and one more to detect surplus data. (`SafeTensors::deserialize`
    /// needs the whole file as one slice, and adds up the sizes in the header without an overflow check.)
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

        // Tensors are contiguous and without gaps. `Metadata` has checked this.
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

    /// Writes a safetensors file, completely or not at all. Replaces an existing file, but not a link to one, and
    /// writes to a pipe or a device. The same tensors and metadata give the same bytes.
    ///
    /// # Errors
    /// [`Error::WriteCheckpoint`]: an existing file is then unchanged.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let error = |source| Error::WriteCheckpoint { path: path.to_owned(), source };
        crate::files::create_folder(path)
            .and_then(|()| crate::files::write(path, |file| write_to(file, &self.metadata, &self.tensors)))
            .map_err(error)
    }
}

/// Returns the next `length` bytes, or fewer if the file ends earlier.
fn part(file: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reason for a failed read.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Format(#[from] BadCheckpoint),
}
