//! Errors, with the file and the tensor or key at fault.

use safetensors::Dtype;
use std::io;
use std::path::{Path, PathBuf};
use wgpu_batchnorm::internals::{cut, shortened};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a command gave no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "bench times a GPU: leave out --backend reference, or install a driver (one in software will do)"
    )]
    BenchNeedsGpu,
    #[error("{} is not empty, and nothing in it is overwritten: name a new folder, or an empty one", path.display())]
    FolderNotEmpty { path: PathBuf },
    #[error("{} is no folder: name a new folder, or an empty one", path.display())]
    NoFolder { path: PathBuf },
    #[error("{}", path.display())]
    Content { path: PathBuf, source: Box<Fault> },
    #[error("{} on {adapter}", path.display())]
    Compute { path: PathBuf, adapter: String, source: Box<wgpu_batchnorm::Error> },
    #[error(
        "not enough memory for {what}, {bytes} bytes: take a smaller batch, or a machine with more memory"
    )]
    Memory { what: String, bytes: usize },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is the input: write to another file, or add --overwrite-input", path.display())]
    OutputIsInput { path: PathBuf },
    #[error("the figure would replace {}, which holds the data: name another file for --plot", path.display())]
    FigureIsData { path: PathBuf },
    #[error("cannot write to standard output")]
    Stdout(#[from] io::Error),
    #[error(transparent)]
    Library(#[from] wgpu_batchnorm::Error),
    #[error("no case has {text:?} in its name; verify without --only lists them all")]
    NoCase { text: String },
    #[error("{0} concerns the GPU, but --backend is reference: leave one of them out")]
    OptionOfReference(&'static str),
}

impl Error {
    /// Returns the message and those of all its sources, on one line.
    pub(crate) fn line(&self) -> String {
        line(self)
    }
}

/// Most characters of a cause. The reader of a header, for one, repeats what it finds there.
const LONGEST_CAUSE: usize = 400;

/// Returns the message of an error and those of all its sources, on one line.
pub(crate) fn line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        line.push_str(": ");
        line.extend(text.chars().take(LONGEST_CAUSE));
        if text.chars().nth(LONGEST_CAUSE).is_some() {
            line.push('…');
        }
        source = error.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A fault in the tensors or the metadata of a readable file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("no tensor x (or x.0, x.1 … for several steps): {}", if found.is_empty() {
        "the file has no tensors".to_owned()
    } else {
        format!("the file has {}", shortened(found))
    })]
    NoInput { found: Vec<String> },
    #[error("x and {} are both there: name one batch x, and several x.0, x.1 …", cut(numbered))]
    TwoForms { numbered: String },
    #[error("{missing} is missing, although there is {}: steps count from 0 without a gap", cut(last))]
    Gap { missing: String, last: String },
    #[error(
        "{} is there, but {} is not: each x needs a {stem}, or none of them has one",
        cut(tensor),
        cut(missing)
    )]
    LoneTensor { tensor: String, missing: String, stem: &'static str },
    #[error("{tensor} is {dtype}; allowed are F32, F16 and BF16: convert it first")]
    Batch { tensor: String, dtype: Dtype },
    #[error("{tensor} is {dtype}, it must be {wanted}")]
    ElementType { tensor: String, dtype: Dtype, wanted: Dtype },
    #[error("{tensor} has shape {}, expected {wanted}", cut(&format!("{shape:?}")))]
    Shape { tensor: String, shape: Vec<usize>, wanted: String },
    #[error("{tensor} has {channels} channels, but {first} has {expected}")]
    Channels { tensor: String, channels: usize, first: String, expected: usize },
    #[error("{tensor} has shape {}: an empty batch may have at most {limit} channels", cut(&format!("{shape:?}")))]
    EmptyButWide { tensor: String, shape: Vec<usize>, limit: usize },
    #[error("{given} is given without {missing}{}", match *missing {
        "weight" | "bias" => format!(": add it, or say --no-{missing} for a layer without it"),
        _ => String::new(),
    })]
    Lone { given: &'static str, missing: &'static str },
    #[error("{tensor} is given, but {key} = false: take it out of the file, or set {key} to true")]
    Unwanted { tensor: &'static str, key: &'static str },
    #[error("num_batches_tracked is {count}: allowed is 0 to {limit}")]
    Count { count: u64, limit: u64 },
    #[error("metadata {key} is {:?}: {reason}", cut(value))]
    Key { key: &'static str, value: String, reason: String },
    #[error("metadata dtype is {:?}, but {tensor} is {dtype}", cut(value))]
    OtherType { value: String, tensor: String, dtype: Dtype },
    #[error(transparent)]
    Tensor(#[from] wgpu_batchnorm::Error),
    #[error("{tensor}")]
    Library { tensor: String, source: wgpu_batchnorm::Error },
}

impl Fault {
    /// Returns the error with the file's name.
    pub(crate) fn in_file(self, path: &Path) -> Error {
        Error::Content { path: path.to_owned(), source: Box::new(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Fault};
    use std::io;
    use std::path::{Path, PathBuf};

    #[test]
    fn the_line_has_every_source_once() {
        let source = wgpu_batchnorm::Error::OneValuePerChannel { shape: vec![1, 2] };
        let error = Fault::Library { tensor: "x.1".to_owned(), source }.in_file(Path::new("in.st"));
        let line = error.line();
        assert!(line.starts_with("in.st: x.1: expected more than 1 value per channel"), "{line}");

        let source = io::Error::other("two\n  lines");
        let line = Error::Write { path: PathBuf::from("a"), source }.line();
        assert_eq!(line, "cannot write a: two lines");

        let source = io::Error::other("the disk is on fire");
        let error = wgpu_batchnorm::Error::ReadCheckpoint { path: Some(PathBuf::from("a")), source };
        assert_eq!(Error::from(error).line(), "cannot read a: the disk is on fire");
        let source = wgpu_batchnorm::checkpoint::BadCheckpoint::Short { found: 3 };
        let error = wgpu_batchnorm::Error::BadCheckpoint { path: Some(PathBuf::from("a")), source };
        let line = Error::from(error).line();
        assert_eq!(line.matches("3 of the 8 bytes").count(), 1, "{line}");
    }
}
