//! What the examples share: handwritten digits, a dense layer, SGD, the loss, and the
//! command line.

pub(crate) mod args;
pub(crate) mod dense;
pub(crate) mod digits;
pub(crate) mod loss;
pub(crate) mod progress;
pub(crate) mod sgd;

/// A result with an error of any type.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
