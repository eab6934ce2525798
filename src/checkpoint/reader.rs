//! Reads the tensors of a large file one by one.

use super::file::{self, Failure, StoredTensor};
use super::{Checkpoint, StateNames};
use crate::config::BatchNormConfig;
use crate::error::{BadCheckpoint, Result};
use crate::state::BatchNormState;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A safetensors file that stays where it is: only its header is in memory, and each tensor is read when it is asked
/// for. [`Checkpoint::open`] opens a file. Four tensors of a file of 5 GB then cost the header and four tensors.
///
/// [`new`](Self::new) takes any reader that can seek. For bytes in memory that is a [`Cursor`](std::io::Cursor), and
/// for a file mapped into memory a cursor on the map: `CheckpointReader::new(Cursor::new(map))` with
/// `memmap2::Mmap`, or any other `AsRef<[u8]>`.
///
/// **A file that changes in between.** A reader keeps the file that it opened. [`Checkpoint::write`] replaces a file by
/// another, so that on Unix, a reader goes on with the previous contents; Windows may refuse to replace an open file.
/// If a program writes into the file itself, the header is no longer that of the data: another length is
/// [`BadCheckpoint::Changed`], but other data of the same length is returned as it is.
///
/// ```no_run
/// use wgpu_batchnorm::{BatchNorm, BatchNormConfig, Checkpoint, Gpu};
///
/// let mut bn = BatchNorm::new(&Gpu::new()?, BatchNormConfig::new(64))?;
/// let file = Checkpoint::open("large.safetensors")?;        // reads the header
/// bn.load_state_dict(&file, "layer1.0.bn1.")?;              // reads five tensors
/// # Ok::<(), wgpu_batchnorm::Error>(())
/// ```
#[derive(Debug)]
pub struct CheckpointReader<R = fs::File> {
    path: Option<PathBuf>,
    reader: Mutex<R>,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
    /// Offset of the tensors' data in the file.
    begin: u64,
    /// Bytes of the file.
    length: u64,
}

impl Checkpoint {
    /// Opens a safetensors file, and reads its header. See [`CheckpointReader`].
    ///
    /// # Errors
    /// As [`read`](Self::read). A pipe cannot be opened, only read.
    pub fn open(path: impl AsRef<Path>) -> Result<CheckpointReader> {
        let path = path.as_ref();
        let file = fs::File::open(path).map_err(Failure::from);
        let opened = file.and_then(|file| CheckpointReader::open(file, Some(path.to_owned())));
        opened.map_err(|failure| failure.of(Some(path)))
    }
}

impl<R: Read + Seek> CheckpointReader<R> {
    /// Reads the header of a safetensors file from its beginning.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn new(reader: R) -> Result<Self> {
        Self::open(reader, None).map_err(|failure| failure.of(None))
    }

    fn open(mut reader: R, path: Option<PathBuf>) -> Result<Self, Failure> {
        let length = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(0))?;
        let (header, begin, _) = file::header(&mut reader)?;
        let (data, found) = (header.data_len() as u64, length.saturating_sub(begin));
        if found < data {
            return Err(BadCheckpoint::CutData { length: data, found }.into());
        }
        if found > data {
            return Err(BadCheckpoint::Surplus { length: data }.into());
        }
        let tensors = header.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { path, reader: Mutex::new(reader), tensors, metadata, begin, length })
    }

    /// Returns the names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns a string of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Returns element type and shape of a tensor. Reads nothing.
    pub fn info(&self, name: &str) -> Option<(Dtype, &[usize])> {
        self.tensors.get(name).map(|info| (info.dtype, info.shape.as_slice()))
    }

    /// Reads a tensor, or returns `None` if the file has none of this name.
    ///
    /// # Errors
    /// - [`Error::ReadCheckpoint`](crate::Error::ReadCheckpoint) if the file cannot be read.
    /// - [`Error::BadCheckpoint`](crate::Error::BadCheckpoint) with [`BadCheckpoint::Changed`] if the file has another
    ///   length than when it was opened.
    pub fn tensor(&self, name: &str) -> Result<Option<StoredTensor>> {
        let Some(info) = self.tensors.get(name) else { return Ok(None) };
        let data = self.data(info).map_err(|failure| failure.of(self.path.as_deref()))?;
        Ok(Some(StoredTensor { dtype: info.dtype, shape: info.shape.clone(), data }))
    }

    fn data(&self, info: &TensorInfo) -> Result<Vec<u8>, Failure> {
        let (from, to) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        // A reader whose user panicked is as good as before, since each read begins with a seek.
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = |found| BadCheckpoint::Changed { length: self.length, found };
        let found = reader.seek(SeekFrom::End(0))?;
        if found != self.length {
            return Err(changed(found).into());
        }
        reader.seek(SeekFrom::Start(self.begin + from))?;
        let data = file::part(&mut *reader, to - from)?;
        if data.len() as u64 != to - from {
            return Err(changed(self.begin + from + data.len() as u64).into());
        }
        Ok(data)
    }

    /// Reads the state of a batch norm, as [`Checkpoint::state`] does. Reads no other tensors.
    ///
    /// # Errors
    /// As [`Checkpoint::state`] and [`tensor`](Self::tensor).
    pub fn state(&self, names: impl Into<StateNames>, config: &BatchNormConfig) -> Result<BatchNormState> {
        Checkpoint::state_of(self, names.into(), config)
    }
}
