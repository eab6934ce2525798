//! All integration tests in one binary.
//!
//! The references form a ladder: PyTorch's and ONNX's numbers (`golden`, `onnx`), then the naive f64 reference by
//! the same cases, then the kernels by the table of cases, in every way to call them.
#![expect(clippy::unwrap_used, reason = "a test that meets an unexpected error fails")]

mod any_data;
mod binding;
mod blocks;
mod checkpoint;
mod conversions;
mod documents;
#[cfg(target_os = "linux")]
mod faults;
mod fold;
mod fused;
mod golden;
mod gradients;
mod half_precision;
mod inference;
mod layer;
mod limits;
mod mutants;
mod network;
mod onnx;
mod parameters;
mod pipeline_cache;
mod plans;
mod properties;
mod recorded;
mod reuse;
#[cfg(target_os = "linux")]
mod scripts;
mod shader_files;
mod shaders;
mod sizes;
mod soak;
mod structure;
mod support;
mod table;
mod tunings;
mod untrusted;
