//! Everything that can go wrong, with the numbers at fault and the remedy.

mod checkpoint;
mod messages;

pub use checkpoint::BadCheckpoint;
pub(crate) use messages::shortened;

use crate::activation::Activation;
use crate::dtype::DType;
use crate::layout::Layout;
use crate::text::{UnknownName, cut, sizes};
use messages::{GROWS_WITH_THE_BATCH, advice, alike, named, names, presence};
use std::path::PathBuf;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, in groups. What holds afterwards:
///
/// | error | was anything done? | what next |
/// |---|---|---|
/// | of the input, the layer, a checkpoint, buffers or limits | no: found before any command was submitted | call again with other arguments |
/// | [`OutOfMemory`](Self::OutOfMemory) | no: nothing was submitted | free memory as the message says, call again |
/// | [`Gpu`](Self::Gpu) | no: wgpu refused the commands, and runs all or none | as the message of wgpu says |
/// | [`Readback`](Self::Readback) | perhaps: a forward pass in training may have moved the running statistics | [`BatchNorm::load_state`](crate::BatchNorm::load_state), call again |
/// | [`DeviceLost`](Self::DeviceLost) | nobody can tell | open a new device: [`Gpu::is_lost`](crate::Gpu::is_lost) |
/// | of files, such as [`WriteCheckpoint`](Self::WriteCheckpoint) | no: the old file is as it was | call again |
///
/// In all cases but the last two of the GPU, every object is as it was and ready for the next call.
///
/// wgpu 30 itself panics after some rare failures of a driver; `docs/backends.md` of the repository lists them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The input.
    /// The input has too few or too many dimensions.
    #[error(
        "expected 2 to 5 dimensions, got {rank} (shape {}): reshape to [N, C] or [N, C, spatial…]",
        sizes(shape)
    )]
    Rank {
        /// Dimensions of the input.
        rank: usize,
        /// Shape of what was given.
        shape: Vec<usize>,
    },
    /// The channel axis has length 0.
    #[error("shape {shape:?} has no channels ({layout}): the channel axis must be at least 1 long")]
    NoChannels {
        /// Shape of what was given.
        shape: Vec<usize>,
        /// Layout by which it was read.
        layout: Layout,
    },
    /// The input has more channels than 32 bits can count.
    #[error("shape {shape:?} has {channels} channels, at most {limit} are possible: check the layout")]
    TooManyChannels {
        /// Channels of the input.
        channels: usize,
        /// Most channels allowed.
        limit: u32,
        /// Shape of what was given.
        shape: Vec<usize>,
    },
    /// The input and the layer have different numbers of channels.
    #[error(
        "expected {num_features} channels, got {channels} on axis {axis} of shape {shape:?}: \
         check num_features and the layout"
    )]
    Channels {
        /// Channels of the layer.
        num_features: usize,
        /// Channels of the input.
        channels: usize,
        /// The axis that was read as the channel axis.
        axis: usize,
        /// Shape of what was given.
        shape: Vec<usize>,
    },
    /// Each channel has a single value in training. Its variance is 0 by definition, so nothing would be learned.
    #[error(
        "expected more than 1 value per channel when training, got 1 for shape {shape:?}: \
         use a larger batch, or eval mode with running statistics"
    )]
    OneValuePerChannel {
        /// Shape of what was given.
        shape: Vec<usize>,
    },
    /// The input has more elements than 32-bit indices can address.
    #[error("shape {shape:?} has more than {limit} elements: split the batch")]
    TooManyElements {
        /// Shape of what was given.
        shape: Vec<usize>,
        /// Most elements allowed.
        limit: usize,
    },
    /// A tensor differs in shape or layout from the one that it must match.
    #[error("{name} must have shape {expected:?} ({expected_layout}), got {shape:?} ({layout})")]
    ShapeMismatch {
        /// The tensor at fault.
        name: &'static str,
        /// Expected shape.
        expected: Vec<usize>,
        /// Expected layout.
        expected_layout: Layout,
        /// Shape of what was given.
        shape: Vec<usize>,
        /// Layout of what was given.
        layout: Layout,
    },
    /// A tensor differs in element type from the one that it must match.
    #[error(
        "{name} must have elements of type {expected}, got {found}: convert it, or read it by its own type"
    )]
    ElementType {
        /// The tensor at fault.
        name: &'static str,
        /// Expected type.
        expected: DType,
        /// Type of what was given.
        found: DType,
    },

    // The layer.
    /// A text names no activation, or no element type.
    #[error(transparent)]
    UnknownName(#[from] UnknownName),
    /// An option is out of its range.
    #[error("{option} is {value}: allowed is {allowed}")]
    InvalidConfig {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: String,
        /// The allowed range.
        allowed: &'static str,
    },
    /// A parameter or running statistic has the wrong length.
    #[error("{name} must have one value per channel: expected {num_features}, got {length}")]
    ParameterLength {
        /// Name of the tensor.
        name: &'static str,
        /// Its length.
        length: usize,
        /// Channels of the layer.
        num_features: usize,
    },
    /// A parameter or running statistic is missing, or was given to a layer that has none.
    #[error("{name} is {}", presence(name, *expected))]
    StateMismatch {
        /// Name of the tensor.
        name: &'static str,
        /// Whether the configuration has it.
        expected: bool,
    },
    /// `backward` was called without the input of a forward pass.
    #[error(
        "backward needs the input of a forward pass in training that did not overwrite it: call forward (not in place) \
         first, or in eval forward_saved, and backward_saved with what it returns"
    )]
    NoForward,

    /// The plan uses features of another device.
    #[error(
        "the plan's kernel {stem} needs {needed:?}, which this device was not opened with: plan with this device's \
         profile (`gpu.profile()`)"
    )]
    MissingFeatures {
        /// The features that are missing.
        needed: wgpu::Features,
        /// The kernel that needs them.
        stem: &'static str,
    },
    /// The plan is for a device with other subgroups.
    #[error(
        "the plan is for subgroups of {} to {} lanes, and this device has {} to {}: plan with this device's profile \
         (`gpu.profile()`)", planned.0, planned.1, found.0, found.1
    )]
    SubgroupSizes {
        /// The smallest and the largest subgroup that the plan allows.
        planned: (u32, u32),
        /// The smallest and the largest subgroup of the device.
        found: (u32, u32),
    },
    /// The layer has no running statistics, so that it has no eval mode to fold into another layer.
    #[error(
        "folding needs running statistics, and the layer keeps none (track_running_stats): every batch is normalised \
         with its own"
    )]
    NoRunningStatistics,
    /// The layer has an activation, which neither a multiplication and an addition nor another layer's weight expresses.
    #[error(
        "folding leaves no place for the layer's activation, {activation}: fold with \
         `config.activation(Activation::Identity)`, and apply {activation} to the output"
    )]
    FoldedActivation {
        /// The activation of the configuration.
        activation: Activation,
    },
    /// The weight or bias of the layer to fold into has the wrong shape.
    #[error(
        "the layer's {name} has shape {shape:?}, expected {expected}: check its groups, and whether it is transposed"
    )]
    FoldedShape {
        /// The tensor at fault.
        name: &'static str,
        /// Shape of what was given.
        shape: Vec<usize>,
        /// Expected shape.
        expected: String,
    },

    // A checkpoint.
    /// A tensor of the layer is not in the checkpoint.
    #[error("the checkpoint has no tensor {}{}", cut(tensor), match alike(.tensor, .found) {
        _ if .found.is_empty() => ": it has no tensors at all".to_owned(),
        alike if alike.is_empty() => format!(": check the prefix; it has {}", shortened(.found)),
        alike => format!(", but {}: check the prefix", shortened(&alike)),
    })]
    MissingTensor {
        /// Its name.
        tensor: String,
        /// Names of all tensors in the checkpoint.
        found: Vec<String>,
    },
    /// The checkpoint has a tensor that the layer has no place for.
    #[error(
        "the checkpoint has {}, but the layer's option {option} is false: load it into a layer where it is true",
        cut(tensor)
    )]
    SurplusTensor {
        /// Its name.
        tensor: String,
        /// The option that the layer would need.
        option: &'static str,
    },
    /// A tensor of the checkpoint has the wrong shape.
    #[error("{} has shape {}, expected {expected}", cut(tensor), sizes(shape))]
    TensorShape {
        /// Its name.
        tensor: String,
        /// Shape in the checkpoint.
        shape: Vec<usize>,
        /// Expected shape.
        expected: String,
    },
    /// A tensor of the checkpoint has an element type that cannot be converted.
    #[error("{} is {dtype}, it must be {expected}", cut(tensor))]
    TensorType {
        /// Its name.
        tensor: String,
        /// Its type.
        dtype: safetensors::Dtype,
        /// The types that can be converted.
        expected: &'static str,
    },
    /// A count of batches is negative, not whole, or more than the checkpoint can hold.
    #[error("{} is {count}: allowed is a whole number, 0 to 9223372036854775807", cut(tensor))]
    TensorCount {
        /// Its name.
        tensor: String,
        /// Its value.
        count: String,
    },
    /// A checkpoint could not be read.
    #[error("cannot read {}", named(path))]
    ReadCheckpoint {
        /// The file, if it has a path.
        path: Option<PathBuf>,
        /// Why it could not be read.
        source: std::io::Error,
    },
    /// A file is not a safetensors file, or is damaged.
    #[error("{} is no safetensors file", named(path))]
    BadCheckpoint {
        /// The file, if it has a path.
        path: Option<PathBuf>,
        /// What is wrong with it.
        source: BadCheckpoint,
    },
    /// A checkpoint could not be written.
    #[error("cannot write {}", named(path))]
    WriteCheckpoint {
        /// The file, if it has a path.
        path: Option<PathBuf>,
        /// Why it could not be written.
        source: std::io::Error,
    },

    // Buffers and limits.
    /// A buffer that the plan needs was not given.
    #[error("the plan needs the buffer {name} ({bytes} bytes, usage STORAGE), but it was not given")]
    MissingBuffer {
        /// The buffer's role.
        name: &'static str,
        /// Bytes it must hold.
        bytes: u64,
    },
    /// A buffer is too small for its role.
    #[error(
        "{name} needs {needed} bytes, but the buffer has {available} after offset {offset}: \
         allocate a larger buffer or lower the offset"
    )]
    BufferTooSmall {
        /// The buffer's role.
        name: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes from the offset to the end of the buffer.
        available: u64,
        /// Its offset, in bytes.
        offset: u64,
    },
    /// A buffer lacks a usage flag.
    #[error("{name} has usage {usage:?} but needs {needed:?}: create the buffer with it")]
    BufferUsage {
        /// The buffer's role.
        name: &'static str,
        /// Usage needed.
        needed: wgpu::BufferUsages,
        /// Usage the buffer has.
        usage: wgpu::BufferUsages,
    },
    /// An offset is not aligned.
    #[error("the offset of {name} is {offset} bytes, not a multiple of {alignment}: align it")]
    Misaligned {
        /// The buffer's role.
        name: &'static str,
        /// Its offset, in bytes.
        offset: u64,
        /// Alignment needed, in bytes.
        alignment: u64,
    },
    /// Two roles share memory that the pass writes through one of them.
    #[error(
        "{first} and {second} lie in one buffer, and the pass writes one of them: use separate buffers{}", if *.overlap { " (the ranges overlap)" } else { "" }
    )]
    SharedBuffer {
        /// One role.
        first: &'static str,
        /// The other role.
        second: &'static str,
        /// Whether the ranges overlap.
        overlap: bool,
    },
    /// A tensor is larger than the device can bind at once.
    #[error(
        "{name} is {bytes} bytes, but this device binds at most {limit} at once \
         (max_storage_buffer_binding_size): {}use a device with a higher limit",
        if GROWS_WITH_THE_BATCH.contains(name) { "split the batch, or " } else { "" }
    )]
    BindingTooLarge {
        /// The buffer's role.
        name: &'static str,
        /// Bytes needed.
        bytes: u64,
        /// The device's limit, in bytes.
        limit: u64,
    },
    /// A buffer would be larger than the device allocates.
    #[error(
        "{name} is {bytes} bytes, but this device allocates at most {limit} for one buffer (max_buffer_size): split the \
         batch, or use a device with a higher limit"
    )]
    BufferTooLarge {
        /// The buffer's role.
        name: &'static str,
        /// Bytes needed.
        bytes: u64,
        /// The device's limit, in bytes.
        limit: u64,
    },
    /// A device limit is below what the kernels need.
    #[error("the device's {limit} is {available}, but at least {needed} is needed: request a higher limit")]
    Limit {
        /// Name of the wgpu limit.
        limit: &'static str,
        /// What the kernels need.
        needed: u64,
        /// What the device has.
        available: u64,
    },
    /// A tensor and the layer belong to different [`Gpu`](crate::Gpu)s.
    #[error("{name} and the layer belong to different devices: make both from one Gpu, or from its clones")]
    ForeignDevice {
        /// The tensor at fault.
        name: &'static str,
    },

    // The adapter, and what only the GPU reports.
    /// No usable adapter was found.
    #[error("no GPU adapter{}: {}, or compute with the CPU reference", match .wanted {
        Some(name) => format!(" with a name like {:?}", cut(name)),
        None => format!(" for {}", names(*.backends)),
    }, if .found.is_empty() {
        advice(*.backends)
    } else {
        format!("take one of [{}]", .found.iter().map(|name| format!("{:?}", cut(name))).collect::<Vec<_>>().join(", "))
    })]
    NoAdapter {
        /// Backends that were searched.
        backends: wgpu::Backends,
        /// The requested name.
        wanted: Option<String>,
        /// Names of the available adapters.
        found: Vec<String>,
    },
    /// The adapter refused to open a device.
    #[error("the adapter opened no device")]
    RequestDevice(#[from] wgpu::RequestDeviceError),
    /// The device is out of memory.
    #[error(
        "the GPU is out of memory while allocating {bytes} bytes for {name}: drop tensors, call `release_buffers` on \
         layers that rest, or split the batch"
    )]
    OutOfMemory {
        /// What was allocated.
        name: &'static str,
        /// Its size.
        bytes: u64,
    },
    /// The device is lost. See [`Gpu::is_lost`](crate::Gpu::is_lost).
    #[error(
        "the device is lost ({reason}), and all that was on it: open a new Gpu, make layers from the last state that \
         was read back, and repeat the step"
    )]
    DeviceLost {
        /// What wgpu or the driver says.
        reason: String,
    },
    /// The results could not be read back.
    #[error("reading back from the GPU failed: {reason}")]
    Readback {
        /// The report of wgpu.
        reason: String,
    },
    /// The file of compiled kernels could not be written.
    #[error("cannot write the pipeline cache {} (choose another folder, or do without)", path.display())]
    PipelineCache {
        /// The file.
        path: PathBuf,
        /// Why it could not be written.
        source: std::io::Error,
    },
    /// A file of tunings could not be read.
    #[error("cannot read the tunings {}", path.display())]
    ReadTunings {
        /// The file.
        path: PathBuf,
        /// Why it could not be read.
        source: std::io::Error,
    },
    /// A file of tunings could not be written.
    #[error("cannot write the tunings {}", path.display())]
    WriteTunings {
        /// The file.
        path: PathBuf,
        /// Why it could not be written.
        source: std::io::Error,
    },
    /// A file is not a file of tunings, or is damaged.
    #[error("{}, line {line}: {reason}; tune again into another file, or delete this one", path.display())]
    DamagedTunings {
        /// The file.
        path: PathBuf,
        /// The line at fault, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Tunings were measured on another adapter, or with another version of this crate.
    #[error("the tunings are of {what} {:?}, but this is {expected:?}: tune again", cut(found))]
    ForeignTunings {
        /// What differs.
        what: &'static str,
        /// Its value in the tunings.
        found: String,
        /// Its value here.
        expected: String,
    },
    /// wgpu reported an error. Its text includes that of all its causes, so they are not told again as sources.
    #[error("wgpu reported an error: {0}")]
    Gpu(wgpu::Error),
}

impl From<wgpu::Error> for Error {
    fn from(error: wgpu::Error) -> Self {
        Self::Gpu(error)
    }
}

#[cfg(test)]
mod tests;
