//! Writes safetensors files and others, completely or not at all.

use crate::error::{Error, Result};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use wgpu_batchnorm::checkpoint::StoredTensor;
use wgpu_batchnorm::half::{bf16, f16};
use wgpu_batchnorm::{DType, internals};

/// Tensors and metadata to write. The same contents give the same bytes, whatever their order of insertion.
#[derive(Default)]
pub(crate) struct Draft {
    tensors: BTreeMap<String, StoredTensor>,
    metadata: BTreeMap<String, String>,
}

impl Draft {
    pub(crate) fn metadata(&mut self, key: &str, value: impl Into<String>) {
        self.metadata.insert(key.to_owned(), value.into());
    }

    pub(crate) fn tensor(&mut self, name: String, dtype: Dtype, shape: &[usize], data: Vec<u8>) {
        self.tensors.insert(name, StoredTensor { dtype, shape: shape.to_vec(), data });
    }

    /// Writes the file as [`write()`] does.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write(path, |file| internals::write_safetensors(file, &self.metadata, &self.tensors))
    }
}

/// Appends floats, rounded to this type, as files store them.
pub(crate) fn store(data: &mut Vec<u8>, dtype: DType, values: impl Iterator<Item = f64>) {
    match dtype {
        DType::F32 => data.extend(values.flat_map(|value| (value as f32).to_le_bytes())),
        DType::F16 => data.extend(values.flat_map(|value| f16::from_f64(value).to_le_bytes())),
        DType::BF16 => data.extend(values.flat_map(|value| bf16::from_f64(value).to_le_bytes())),
        _ => unreachable!("{dtype} is newer than this program"),
    }
}

/// The files that this run wrote.
static WRITTEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Returns the files that this run wrote, in their order.
pub(crate) fn written() -> Vec<PathBuf> {
    WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Writes a file completely or not at all: if that fails, an existing file stays as it was.
pub(crate) fn write(path: &Path, contents: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    internals::write(path, contents).map_err(|source| Error::Write { path: path.to_owned(), source })?;
    WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
    Ok(())
}

/// Checks early whether `path` can be written to.
pub(crate) fn check_target(path: &Path) -> Result<()> {
    internals::check_target(path).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Fails if input and output are one file, by whatever names.
pub(crate) fn check_distinct(input: &Path, output: &Path) -> Result<()> {
    match (identity(input), identity(output)) {
        (Ok(one), Ok(other)) if one == other => Err(Error::OutputIsInput { path: output.to_owned() }),
        _ => Ok(()),
    }
}

/// Returns what tells a file from all others: device and number.
#[cfg(unix)]
fn identity(path: &Path) -> io::Result<impl PartialEq> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Returns what tells a file from all others: its path without links. Hard links have a path each.
#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<impl PartialEq> {
    std::fs::canonicalize(path)
}

#[cfg(test)]
mod tests {
    use super::{DType, Draft, store};
    use crate::settings::stored_type;
    use wgpu_batchnorm::Checkpoint;

    fn draft() -> Draft {
        let mut draft = Draft::default();
        let halves = [1.0, 65519.0, -0.1];
        for (name, dtype) in [("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16)] {
            let mut data = Vec::new();
            store(&mut data, dtype, halves.into_iter());
            draft.tensor(name.to_owned(), stored_type(dtype), &[1, 3], data);
        }
        draft.metadata("quote", "\"ü\"");
        draft
    }

    #[test]
    fn what_is_written_is_read() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        draft().write(&path)?;
        let file = Checkpoint::read(&path)?;
        assert_eq!(file.metadata("quote"), Some("\"ü\""));
        for (name, bytes) in [
            ("f32", &[0, 0, 128, 63, 0, 0xef, 0x7f, 0x47, 0xcd, 0xcc, 0xcc, 0xbd][..]),
            ("f16", &[0, 0x3c, 0xff, 0x7b, 0x66, 0xae]),
            ("bf16", &[0x80, 0x3f, 0x80, 0x47, 0xcd, 0xbd]),
        ] {
            let tensor = file.tensor(name).ok_or("no such tensor")?;
            assert_eq!(
                (tensor.shape.as_slice(), tensor.data.as_slice()),
                ([1, 3].as_slice(), bytes),
                "{name}"
            );
        }
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }
}
