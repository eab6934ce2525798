//! Files that are read one tensor at a time.

use super::cause;
use crate::fold::file;
use crate::support::gpu;
use safetensors::Dtype;
use std::cell::Cell;
use std::fs;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::rc::Rc;
use wgpu_batchnorm::checkpoint::CheckpointReader;
use wgpu_batchnorm::{BatchNorm, BatchNormConfig, BatchNormState, Checkpoint, Error};

/// Counts the bytes that are read of a file.
struct Counting {
    file: Cursor<Vec<u8>>,
    read: Rc<Cell<u64>>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.read.set(self.read.get() + bytes as u64);
        Ok(bytes)
    }
}

impl Seek for Counting {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn a_reader_reads_only_what_is_asked_for() {
    let mut file = file("checkpoint.safetensors");
    let config = BatchNormConfig::new(6);
    let state = file.state("layer1.0.bn1.", &config).unwrap();
    let other = BatchNormState::new(&BatchNormConfig::new(100_000));
    file.insert("large.", &other).unwrap();
    let bytes = file.to_bytes().unwrap();
    assert!(bytes.len() > 1_600_000);
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap());

    let read = Rc::new(Cell::new(0));
    let reader = Counting { file: Cursor::new(bytes), read: read.clone() };
    let reader = CheckpointReader::new(reader).unwrap();
    let within = |range: Range<u64>| assert!(range.contains(&read.get()), "{} not in {range:?}", read.get());
    within(header..header + 200);
    assert!(reader.names().eq(file.names()));
    assert_eq!(reader.info("large.weight"), Some((Dtype::F32, &[100_000][..])));
    assert_eq!(reader.info("none"), None);
    within(header..header + 200);

    let before = read.replace(0);
    let mut bn = BatchNorm::new(gpu(), config.clone()).unwrap();
    bn.load_state_dict(&reader, "layer1.0.bn1").unwrap();
    assert_eq!((read.replace(0), bn.state().unwrap()), (4 * 24 + 8, state.clone()), "{before}");
    assert_eq!(reader.state("layer1.0.bn1.", &config).unwrap(), state);

    // What does not fit is refused by the header alone.
    read.set(0);
    let refused = bn.load_state_dict(&reader, "large.").unwrap_err();
    assert!(matches!(refused, Error::TensorShape { .. }), "{refused}");
    let refused = reader.state("larger.", &config).unwrap_err();
    assert!(matches!(refused, Error::MissingTensor { .. }), "{refused}");
    assert!(read.get() <= 8, "{} bytes", read.get());
    for name in file.names() {
        assert_eq!(reader.tensor(name).unwrap().as_ref(), file.tensor(name), "{name}");
    }
    assert!(reader.tensor("none").unwrap().is_none());
}

#[test]
fn a_file_that_changes_while_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let original = file("checkpoint.safetensors");
    original.write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let reader = Checkpoint::open(&path).unwrap();
    let name = "layer1.0.bn1.weight";
    assert_eq!(reader.tensor(name).unwrap().as_ref(), original.tensor(name));
    assert_eq!(reader.metadata("none"), None);
    for other in [&bytes[..bytes.len() - 1], &bytes[..100], &[&bytes[..], b"x"].concat(), b""] {
        fs::write(&path, other).unwrap();
        let error = reader.tensor(name).unwrap_err();
        let text = format!("it had {} bytes when it was opened, and has {} now", bytes.len(), other.len());
        assert!(cause(&error).contains(&text) && cause(&error).contains("open it again"), "{error}");
        assert!(matches!(error, Error::BadCheckpoint { path: Some(found), .. } if found == path));
    }
    // The same length again: the reader goes on.
    fs::write(&path, &bytes).unwrap();
    assert_eq!(reader.tensor(name).unwrap().as_ref(), original.tensor(name));
    // Replaced by another file: the reader stays with the one that it has.
    if cfg!(unix) {
        Checkpoint::new().write(&path).unwrap();
        assert_eq!(reader.tensor(name).unwrap().as_ref(), original.tensor(name));
        assert_eq!(Checkpoint::open(&path).unwrap().names().count(), 0);
    }
    let error = Checkpoint::open(folder.path().join("none")).unwrap_err();
    assert!(matches!(error, Error::ReadCheckpoint { path: Some(_), .. }), "{error}");
}

#[test]
fn damaged_files_are_not_opened() {
    let good = file("checkpoint.safetensors").to_bytes().unwrap();
    for (bytes, word) in [
        (&good[..5], "5 of the 8 bytes"),
        (&good[..100], "cut off"),
        (&good[..good.len() - 1], "cut off"),
        (&[&good[..], b"x"].concat(), "goes on"),
        (&u64::MAX.to_le_bytes(), "18446744073709551615"),
    ] {
        let error = CheckpointReader::new(Cursor::new(bytes)).unwrap_err();
        assert!(matches!(error, Error::BadCheckpoint { path: None, .. }), "{error}");
        assert!(cause(&error).contains(word), "{error}: {} lacks {word}", cause(&error));
        assert_eq!(cause(&Checkpoint::from_bytes(bytes).unwrap_err()), cause(&error));
    }
}

#[test]
fn bytes_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let original = file("checkpoint.safetensors");
    original.write(&path).unwrap();
    let bytes = original.to_bytes().unwrap();
    assert_eq!(fs::read(&path).unwrap().len(), bytes.len());
    assert_eq!(Checkpoint::from_bytes(&bytes).unwrap(), original);
    assert_eq!(Checkpoint::from_bytes(&Checkpoint::new().to_bytes().unwrap()).unwrap(), Checkpoint::new());
}
