//! Writes the format of safetensors files. The same contents give the same bytes: `safetensors::serialize` takes the
//! metadata from a hash map, in an order that changes from call to call, and copies all data.

use super::StoredTensor;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, ErrorKind, Write};

/// The header's key of the metadata. No tensor can have this name.
const METADATA: &str = "__metadata__";

/// Writes a file's contents. Fails with `InvalidInput` if a tensor's data does not fit its type and shape, or if a
/// tensor has the name that the format gives to the metadata.
pub(crate) fn write_to(
    file: impl Write,
    metadata: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, StoredTensor>,
) -> io::Result<()> {
    // Puts the widest elements first, so that all data is aligned. The sort keeps the order of names.
    let mut ordered: Vec<_> = tensors.iter().collect();
    ordered.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype));

    let header = header(metadata, &ordered)?;
    let mut file = BufWriter::new(file);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for (_, tensor) in ordered {
        file.write_all(&tensor.data)?;
    }
    file.flush()
}

/// Returns the header of tensors that follow each other in this order. Spaces fill it up to a multiple of eight bytes.
fn header(metadata: &BTreeMap<String, String>, tensors: &[(&String, &StoredTensor)]) -> io::Result<String> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA.to_owned(), json!(metadata));
    }
    let mut end = 0;
    for (name, StoredTensor { dtype, shape, data }) in tensors {
        let invalid = |reason: String| io::Error::new(ErrorKind::InvalidInput, format!("{name}: {reason}"));
        TensorView::new(*dtype, shape.clone(), data).map_err(|reason| invalid(reason.to_string()))?;
        if *name == METADATA {
            return Err(invalid("safetensors files keep this name for the metadata".to_owned()));
        }
        let offsets = [end, end + data.len()];
        header.insert((*name).clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
        end += data.len();
    }
    let mut header = Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::{StoredTensor, write_to};
    use crate::checkpoint::Checkpoint;
    use safetensors::{Dtype, SafeTensors};
    use std::collections::BTreeMap;
    use std::io;

    fn tensor(dtype: Dtype, shape: &[usize], data: &[u8]) -> StoredTensor {
        StoredTensor { dtype, shape: shape.to_vec(), data: data.to_vec() }
    }

    /// A checkpoint with tensors of several widths, and with metadata, inserted in this order or in the reverse.
    fn checkpoint(reverse: bool) -> Checkpoint {
        let mut tensors = vec![
            ("a", tensor(Dtype::U8, &[3], &[1, 2, 3])),
            ("b", tensor(Dtype::F16, &[1, 1], &[0, 0x3c])),
            ("count", tensor(Dtype::I64, &[], &[7, 0, 0, 0, 0, 0, 0, 0])),
            ("empty", tensor(Dtype::F32, &[0, 3], &[])),
            ("ü\"", tensor(Dtype::F32, &[1], &[0, 0, 128, 63])),
        ];
        let mut keys: Vec<String> = (0..20).map(|k| format!("key \"{k}\"")).collect();
        if reverse {
            tensors.reverse();
            keys.reverse();
        }
        Checkpoint {
            tensors: tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect(),
            metadata: keys.into_iter().map(|key| (key.clone(), key)).collect(),
        }
    }

    #[test]
    fn the_same_contents_give_the_same_bytes() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        checkpoint(false).write(&path)?;
        let first = std::fs::read(&path)?;
        for write in 0..4 {
            checkpoint(write % 2 == 1).write(&path)?;
            assert_eq!(std::fs::read(&path)?, first);
        }
        assert_eq!(Checkpoint::read(&path)?, checkpoint(false));
        Ok(())
    }

    #[test]
    fn other_readers_understand_the_file() -> Result<(), Box<dyn std::error::Error>> {
        let Checkpoint { tensors, metadata } = checkpoint(false);
        let mut bytes = Vec::new();
        write_to(&mut bytes, &metadata, &tensors)?;
        let (length, header) = SafeTensors::read_metadata(&bytes)?;
        let read = header.metadata().clone().unwrap_or_default();
        assert_eq!(read.into_iter().collect::<BTreeMap<_, _>>(), metadata);
        let file = SafeTensors::deserialize(&bytes)?;
        assert_eq!(file.len(), tensors.len());
        for (name, tensor) in &tensors {
            let found = file.tensor(name)?;
            assert_eq!((found.dtype(), found.shape()), (tensor.dtype, tensor.shape.as_slice()));
            assert_eq!(found.data(), tensor.data);
            let (from, _) = header.info(name).ok_or("no such tensor")?.data_offsets;
            let width = (tensor.dtype.bitsize() / 8).max(1);
            assert!((8 + length + from).is_multiple_of(width), "{name} at {from}");
        }

        // A file without metadata has no such entry.
        let mut bytes = Vec::new();
        write_to(&mut bytes, &BTreeMap::new(), &tensors)?;
        assert!(SafeTensors::read_metadata(&bytes)?.1.metadata().is_none());
        Ok(())
    }

    /// A writer that notes where large pieces lie in memory.
    struct Places(Vec<*const u8>);

    impl io::Write for Places {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.len() > 50_000 {
                self.0.push(bytes.as_ptr());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn data_is_not_copied() -> Result<(), Box<dyn std::error::Error>> {
        let large = tensor(Dtype::F32, &[25_000], &[1; 100_000]);
        let tensors = BTreeMap::from(["x", "y"].map(|name| (name.to_owned(), large.clone())));
        let mut places = Places(Vec::new());
        write_to(&mut places, &BTreeMap::new(), &tensors)?;
        assert!(places.0.into_iter().eq(tensors.values().map(|tensor| tensor.data.as_ptr())));
        Ok(())
    }

    #[test]
    fn what_the_format_cannot_hold_is_refused() {
        for (name, tensor) in
            [("__metadata__", tensor(Dtype::U8, &[], &[0])), ("x", tensor(Dtype::F32, &[2], &[0; 7]))]
        {
            let tensors = BTreeMap::from([(name.to_owned(), tensor)]);
            let mut bytes: Vec<u8> = Vec::new();
            let error = write_to(&mut bytes, &BTreeMap::new(), &tensors);
            assert!(error.is_err_and(|error| error.to_string().starts_with(name)));
            assert!(bytes.is_empty());
        }
    }
}
