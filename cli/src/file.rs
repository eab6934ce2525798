//! Writes safetensors files and others, completely or not at all.

use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use wgpu_batchnorm::half::{bf16, f16};
use wgpu_batchnorm::{DType, internals};

/// A tensor to write.
pub(crate) enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    I64(i64),
}

impl Values {
    /// Rounds floats to this type.
    pub(crate) fn new(dtype: DType, values: impl Iterator<Item = f64>) -> Self {
        match dtype {
            DType::F32 => Self::F32(values.map(|value| value as f32).collect()),
            DType::F16 => Self::F16(values.map(f16::from_f64).collect()),
            DType::BF16 => Self::BF16(values.map(bf16::from_f64).collect()),
            _ => unreachable!("{dtype} is newer than this program"),
        }
    }

    /// Returns the name of the type in a file, and the number of bytes.
    fn header(&self) -> (&'static str, usize) {
        match self {
            Self::F32(values) => ("F32", values.len() * 4),
            Self::F16(values) => ("F16", values.len() * 2),
            Self::BF16(values) => ("BF16", values.len() * 2),
            Self::I64(_) => ("I64", 8),
        }
    }

    fn write_to(&self, file: &mut impl Write) -> io::Result<()> {
        match self {
            Self::F32(values) => values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes())),
            Self::F16(values) => values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes())),
            Self::BF16(values) => values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes())),
            Self::I64(value) => file.write_all(&value.to_le_bytes()),
        }
    }
}

/// Tensors and metadata to write. The same contents give the same bytes, whatever their order of insertion.
#[derive(Default)]
pub(crate) struct Draft {
    tensors: BTreeMap<String, (Vec<usize>, Values)>,
    metadata: BTreeMap<&'static str, String>,
}

impl Draft {
    pub(crate) fn metadata(&mut self, key: &'static str, value: impl Into<String>) {
        self.metadata.insert(key, value.into());
    }

    pub(crate) fn tensor(&mut self, name: String, shape: &[usize], values: Values) {
        self.tensors.insert(name, (shape.to_vec(), values));
    }

    /// Writes the file as [`write()`] does.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write(path, |file| self.write_to(file))
    }

    /// Writes the contents. Unlike `safetensors::serialize`, always uses the same order, and does not copy the data.
    fn write_to(&self, file: impl Write) -> io::Result<()> {
        // Puts the widest values first, so that all data is aligned.
        let narrowness = |values: &Values| match values {
            Values::I64(_) => 0,
            Values::F32(_) => 1,
            Values::F16(_) | Values::BF16(_) => 2,
        };
        let mut ordered: Vec<_> = self.tensors.iter().collect();
        ordered.sort_by_key(|(_, (_, values))| narrowness(values));

        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!(self.metadata));
        let mut end = 0;
        for (name, (shape, values)) in &ordered {
            let (dtype, bytes) = values.header();
            let tensor = json!({ "dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes] });
            header.insert((*name).to_owned(), tensor);
            end += bytes;
        }
        let mut header = Value::Object(header).to_string();
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }

        let mut file = BufWriter::new(file);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for (_, (_, values)) in ordered {
            values.write_to(&mut file)?;
        }
        file.flush()
    }
}

/// Writes a file completely or not at all: if that fails, an existing file stays as it was.
pub(crate) fn write(path: &Path, contents: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    internals::write(path, contents).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Checks early whether `path` can be written to.
pub(crate) fn check_target(path: &Path) -> Result<()> {
    internals::check_target(path).map_err(|source| Error::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::{DType, Draft, Values};
    use safetensors::{Dtype, SafeTensors};
    use wgpu_batchnorm::Checkpoint;

    fn draft() -> Draft {
        let mut draft = Draft::default();
        draft.tensor("y".to_owned(), &[1, 3], Values::F32(vec![1.0, -0.5, f32::NAN]));
        draft.tensor("empty".to_owned(), &[0, 3], Values::F32(Vec::new()));
        draft.tensor("z".to_owned(), &[], Values::I64(-7));
        let halves = [1.0, 65519.0, -0.1].into_iter();
        draft.tensor("f16".to_owned(), &[3], Values::new(DType::F16, halves.clone()));
        draft.tensor("bf16".to_owned(), &[3], Values::new(DType::BF16, halves));
        draft.metadata("quote", "\"ü\"");
        draft
    }

    #[test]
    fn what_is_written_is_read() -> Result<(), Box<dyn std::error::Error>> {
        let mut bytes = Vec::new();
        draft().write_to(&mut bytes)?;
        let file = SafeTensors::deserialize(&bytes)?;
        assert_eq!(file.len(), 5);
        let f16 = file.tensor("f16")?;
        assert_eq!((f16.dtype(), f16.data()), (Dtype::F16, &[0, 0x3c, 0xff, 0x7b, 0x66, 0xae][..]));
        let bf16 = file.tensor("bf16")?;
        assert_eq!((bf16.dtype(), bf16.data()), (Dtype::BF16, &[0x80, 0x3f, 0x80, 0x47, 0xcd, 0xbd][..]));
        let y = file.tensor("y")?;
        assert_eq!((y.dtype(), y.shape()), (Dtype::F32, [1, 3].as_slice()));
        assert_eq!(y.data()[..8], [0, 0, 128, 63, 0, 0, 0, 191]);
        assert_eq!(file.tensor("empty")?.shape(), [0, 3]);
        let z = file.tensor("z")?;
        assert_eq!((z.dtype(), z.shape(), z.data()), (Dtype::I64, [].as_slice(), &(-7i64).to_le_bytes()[..]));

        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        draft().write(&path)?;
        let contents = Checkpoint::read(&path)?;
        assert_eq!(contents.metadata("quote"), Some("\"ü\""));
        assert!(contents.names().eq(["bf16", "empty", "f16", "y", "z"]));
        assert_eq!(std::fs::read(&path)?, bytes);
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay() -> Result<(), Box<dyn std::error::Error>> {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir()?;
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "before")?;
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640))?;
        symlink(&file, &link)?;
        draft().write(&link)?;
        assert!(link.is_symlink());
        assert_eq!(Checkpoint::read(&file)?.names().count(), 5);
        assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o640);
        // The link stays one, too, where its file is not there yet.
        std::fs::remove_file(&file)?;
        draft().write(&link)?;
        assert!(link.is_symlink() && !file.is_symlink());
        assert_eq!(Checkpoint::read(&file)?.names().count(), 5);
        Ok(())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_is_written_to_and_not_replaced() -> Result<(), Box<dyn std::error::Error>> {
        use std::os::unix::fs::FileTypeExt;
        draft().write("/dev/null".as_ref())?;
        assert!(std::fs::metadata("/dev/null")?.file_type().is_char_device());
        let full = draft().write("/dev/full".as_ref()).map_err(|error| error.line());
        assert!(full.is_err_and(|line| line.starts_with("cannot write /dev/full: No space left")));
        Ok(())
    }
}
