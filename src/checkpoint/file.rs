//! Reads and writes safetensors files. A write replaces the whole file or leaves it unchanged.

use super::write::write_to;
use super::{Checkpoint, formats};
use crate::error::{BadCheckpoint, Error, Result};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Cursor, Read};
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
    /// Reads a safetensors file into memory. [`open`](Self::open) reads large files one tensor at a time.
    ///
    /// # Errors
    /// - [`Error::ReadCheckpoint`] if the file cannot be read.
    /// - [`Error::BadCheckpoint`] if it is not a safetensors file, or is damaged. A file of PyTorch, NumPy, Keras or
    ///   llama.cpp is named, with the way to convert it.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = fs::File::open(path).map_err(Failure::from);
        file.and_then(Self::read_from).map_err(|failure| failure.of(Some(path)))
    }

    /// Reads a safetensors file that is in memory. Copies the tensors. A
    /// [`CheckpointReader`](super::CheckpointReader) on a [`Cursor`] copies only those that are asked for.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] as [`read`](Self::read), without a path.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::read_from(bytes).map_err(|failure| failure.of(None))
    }

    /// Reads the bytes that the header announces, and one more to detect surplus data. (`SafeTensors::deserialize`
    /// needs the whole file as one slice, and adds up the sizes in the header without an overflow check.)
    fn read_from(file: impl Read) -> Result<Self, Failure> {
        let (header, _, mut file) = header(file)?;
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
        let error = |source| Error::WriteCheckpoint { path: Some(path.to_owned()), source };
        crate::files::create_folder(path)
            .and_then(|()| crate::files::write(path, |file| write_to(file, &self.metadata, &self.tensors)))
            .map_err(error)
    }

    /// Returns the bytes of the file that [`write`](Self::write) writes.
    ///
    /// # Errors
    /// [`Error::WriteCheckpoint`] if the names and the metadata take more bytes than the format allows.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        write_to(&mut bytes, &self.metadata, &self.tensors)
            .map_err(|source| Error::WriteCheckpoint { path: None, source })?;
        Ok(bytes)
    }
}

/// Reads the header. Returns it with the offset of the data behind it, and with what follows.
pub(super) fn header<R: Read>(mut file: R) -> Result<(Metadata, u64, impl Read + use<R>), Failure> {
    let start = part(&mut file, formats::START)?;
    let mut file = Cursor::new(start.clone()).chain(file);
    match parse(&mut file) {
        Ok((header, begin)) => Ok((header, begin, file)),
        Err(Failure::Format(reason)) => Err(formats::recognise(&start).unwrap_or(reason).into()),
        Err(failure) => Err(failure),
    }
}

/// Reads the header. Returns it with its length and that of what precedes it.
fn parse(file: &mut impl Read) -> Result<(Metadata, u64), Failure> {
    let length = part(file, 8)?;
    let found = length.len();
    let length = <[u8; 8]>::try_from(length).map_err(|_| BadCheckpoint::Short { found })?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(BadCheckpoint::LongHeader { length }.into());
    }
    let header = part(file, length)?;
    if header.len() as u64 != length {
        return Err(BadCheckpoint::CutHeader { length, found: header.len() }.into());
    }
    let header = serde_json::from_slice(&header).map_err(BadCheckpoint::Header)?;
    Ok((header, 8 + length))
}

/// Returns the next `length` bytes, or fewer if the file ends earlier.
pub(super) fn part(file: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reason for a failed read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Format(#[from] BadCheckpoint),
}

impl Failure {
    /// Returns the error with the file's name, if it has one.
    pub(super) fn of(self, path: Option<&Path>) -> Error {
        let path = path.map(Path::to_owned);
        match self {
            Self::Read(source) => Error::ReadCheckpoint { path, source },
            Self::Format(source) => Error::BadCheckpoint { path, source },
        }
    }
}
