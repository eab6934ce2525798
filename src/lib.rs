#![doc = include_str!("../README.md")]

mod activation;
pub mod checkpoint;
mod config;
mod dtype;
mod error;
mod files;
mod fold;
mod gpu;
pub mod guide;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
#[doc(hidden)]
pub mod kernels;
mod layer;
mod layout;
mod lru;
mod mode;
pub mod plan;
mod profile;
pub mod record;
pub mod reference;
mod shape;
mod state;
mod tensor;
mod text;
pub mod tuner;
pub mod tunings;
#[cfg(feature = "verify")]
pub mod verify;

pub use activation::Activation;
pub use checkpoint::{Checkpoint, CheckpointReader, StateNames};
pub use config::BatchNormConfig;
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use fold::{Convolution, Folded, ScaleAndShift};
pub use gpu::{Gpu, GpuOptions};
pub use layer::{ArrayGradients, BatchNorm, BatchStatistics, GradientWrite, Gradients, LayerTensors, Saved};
pub use layout::Layout;
pub use mode::Mode;
pub use plan::{BackwardOptions, Direction, ForwardOptions, GradientMask, Plan, PlanInput, Tuning};
pub use profile::{AdapterProfile, Hardware, HardwareSource};
pub use record::{BoundPlan, Buffers, PreparedPlan};
pub use shape::Problem;
pub use state::BatchNormState;
pub use tensor::{BufferRegion, Tensor};
pub use text::UnknownName;
pub use tuner::Tuned;
pub use tunings::Tunings;

// Their types are part of this crate's own API.
pub use half;
pub use ndarray;
pub use safetensors;
pub use wgpu;
