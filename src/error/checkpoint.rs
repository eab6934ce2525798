//! Why a file is not a checkpoint.

/// Why a file is not a safetensors file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadCheckpoint {
    /// The file ends within the first eight bytes.
    #[error("it has only {found} of the 8 bytes that say how long the header is")]
    Short {
        /// Bytes in the file.
        found: usize,
    },
    /// The header would be longer than the format allows.
    #[error("the header would be {length} bytes long")]
    LongHeader {
        /// Its length, as the file says.
        length: u64,
    },
    /// The file ends within the header.
    #[error("it is cut off: the header would be {length} bytes long, but only {found} follow")]
    CutHeader {
        /// The header's length, as the file says.
        length: u64,
        /// Bytes in the file.
        found: usize,
    },
    /// The header does not describe tensors.
    #[error("the header cannot be read")]
    Header(#[source] serde_json::Error),
    /// The file ends within a tensor.
    #[error("it is cut off: the tensors would take {length} bytes, but only {found} follow")]
    CutData {
        /// Bytes of all tensors, as the header says.
        length: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// The file is of another format.
    #[error("it is {name}: {remedy}")]
    OtherFormat {
        /// The format.
        name: &'static str,
        /// How to make a safetensors file of it.
        remedy: &'static str,
    },
    /// The file has changed since it was opened.
    #[error("it had {length} bytes when it was opened, and has {found} now: open it again")]
    Changed {
        /// Bytes in the file when it was opened.
        length: u64,
        /// Bytes in the file now.
        found: u64,
    },
    /// The file does not end after the tensors.
    #[error("it goes on after the tensors' {length} bytes")]
    Surplus {
        /// Bytes of all tensors.
        length: u64,
    },
}
