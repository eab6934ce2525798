#![doc = include_str!("../README.md")]

mod activation;
mod array;
mod backward;
mod batch_norm;
pub mod checkpoint;
mod config;
mod dtype;
mod error;
mod files;
mod fold;
mod forward;
mod gpu;
pub mod kernels;
mod memory;
mod pipeline_cache;
pub mod plan;
mod profile;
mod recent;
pub mod record;
pub mod reference;
mod shape;
mod state;
mod tensor;
mod transfer;
pub mod tuner;
pub mod verify;

pub use activation::Activation;
pub use array::ArrayGradients;
pub use backward::{Gradients, Saved};
pub use batch_norm::{BatchNorm, BatchStatistics};
pub use checkpoint::{Checkpoint, StateNames};
pub use config::BatchNormConfig;
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use fold::{Convolution, Folded, ScaleAndShift};
pub use gpu::{Gpu, GpuOptions};
pub use plan::{BackwardOptions, ForwardOptions, Plan, Tuning, Wanted};
pub use profile::AdapterProfile;
pub use record::{BoundPlan, BufferRegion, Buffers, PreparedPlan};
pub use shape::{Layout, Problem};
pub use state::BatchNormState;
pub use tensor::Tensor;
pub use tuner::{Direction, Tuned, Tunings};

// Their types are part of this crate's own API.
pub use half;
pub use ndarray;
pub use safetensors;
pub use wgpu;
