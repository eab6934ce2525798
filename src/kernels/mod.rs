//! The kernels: which WGSL files make one up, which constants it is compiled with, what it binds.
//!
//! A kernel's source is constants, then every shader file that its own file uses, each with the case that was chosen
//! of it, then its own file: `shaders/kernel/STEM.wgsl`. Each kernel's Rust side is the file of the same stem here: it
//! says which cases are chosen. The entry point is `main` of `shaders/entry.wgsl`, which calls the kernel.
//!
//! | kernel | does |
//! |---|---|
//! | `count_batch` | adds 1 to `num_batches_tracked` |
//! | `moments` | reduces x to moments (count, mean, sum of squared deviations) per channel and split |
//! | `finalize` | merges the partial moments to statistics, moves the running statistics |
//! | `normalize` | y = (x − mean) · weight · `inv_std` + bias, + z and through the activation |
//! | `forward_channel` | all of that in one dispatch, where a workgroup or invocation has a channel to itself |
//! | `forward_held` | the same, with the channel held in registers meanwhile, so that x is read once |
//! | `backward_sums` | reduces dy and x to sums of dy and dy·(x − mean) per channel and split |
//! | `backward_finalize` | merges the partial sums to dweight, dbias and what dx needs of them |
//! | `backward_input` | dx and dz |
//! | `backward_channel` | all three in one dispatch |
//! | `backward_held` | the same, with x and dy read once |

mod backward_channel;
mod backward_finalize;
mod backward_held;
mod backward_input;
mod backward_sums;
mod binding;
mod compose;
mod count_batch;
mod finalize;
mod forward_channel;
mod forward_held;
mod fused;
mod gradients;
mod held;
mod lanes;
mod moments;
mod normalize;
mod params;
mod statistics;
mod storage;
mod tracking;
mod walk;

pub use backward_channel::BackwardChannel;
pub use backward_finalize::BackwardFinalize;
pub use backward_held::BackwardHeld;
pub use backward_input::BackwardInput;
pub use backward_sums::BackwardSums;
pub use binding::{Access, Binding};
pub use compose::{files, listed, parts};
pub use count_batch::CountBatch;
pub use finalize::Finalize;
pub use forward_channel::ForwardChannel;
pub use forward_held::ForwardHeld;
pub use fused::{ActivationKind, InputGradient, Output, Upstream};
pub use gradients::ChannelGradients;
pub use held::{Held, Places};
pub use lanes::Lanes;
pub use moments::{Moments, MomentsResult};
pub use normalize::Normalize;
pub use params::{Params, Splits};
pub use statistics::Statistics;
pub use storage::Storage;
pub use tracking::Tracking;
pub use walk::{Walk, Width};

use compose::{Choice, compose};
use std::fmt::Write;

/// Bytes of a channel's statistics: mean (two parts), `inv_std`, variance.
pub const STATISTICS_BYTES: u64 = 16;

/// Bytes of a partial result, one per channel and split: packed `Moments` or `Sums`.
pub const PARTIAL_BYTES: u64 = 16;

/// Bytes of a channel's `Projection`.
pub const PROJECTION_BYTES: u64 = 16;

/// One kernel with all that it is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// Counts a batch.
    CountBatch(CountBatch),
    /// Reduces to moments.
    Moments(Moments),
    /// Merges partial moments.
    Finalize(Finalize),
    /// Normalises.
    Normalize(Normalize),
    /// All of that at once.
    ForwardChannel(ForwardChannel),
    /// The same with x read once.
    ForwardHeld(ForwardHeld),
    /// Reduces to sums for backward.
    BackwardSums(BackwardSums),
    /// Merges the partial sums.
    BackwardFinalize(BackwardFinalize),
    /// Computes dx.
    BackwardInput(BackwardInput),
    /// All of that at once.
    BackwardChannel(BackwardChannel),
    /// The same with x and dy read once.
    BackwardHeld(BackwardHeld),
}

/// What a kernel is made of.
struct Source {
    /// File name.
    stem: &'static str,
    /// Constants the shader is compiled with.
    constants: Vec<(&'static str, u32)>,
    /// Which case is taken of each shader file that has some.
    choices: Vec<Choice>,
    /// What it binds.
    bindings: Vec<(Binding, Access)>,
}

impl Source {
    /// The case that is taken of a file.
    fn chosen(&self, file: &str) -> Option<&'static str> {
        self.choices.iter().find(|(name, _)| *name == file).map(|(_, case)| *case)
    }
}

impl Kernel {
    fn source(&self) -> Source {
        match self {
            Self::CountBatch(kernel) => kernel.source(),
            Self::Moments(kernel) => kernel.source(),
            Self::Finalize(kernel) => kernel.source(),
            Self::Normalize(kernel) => kernel.source(),
            Self::ForwardChannel(kernel) => kernel.source(),
            Self::ForwardHeld(kernel) => kernel.source(),
            Self::BackwardSums(kernel) => kernel.source(),
            Self::BackwardFinalize(kernel) => kernel.source(),
            Self::BackwardInput(kernel) => kernel.source(),
            Self::BackwardChannel(kernel) => kernel.source(),
            Self::BackwardHeld(kernel) => kernel.source(),
        }
    }

    /// The name of the entry point of every kernel.
    pub const ENTRY_POINT: &str = "main";

    /// The name of the kernel: its file's stem.
    pub fn stem(&self) -> &'static str {
        self.source().stem
    }

    /// What the kernel binds, and how.
    pub fn bindings(&self) -> Vec<(Binding, Access)> {
        self.source().bindings
    }

    /// How many storage buffers it binds.
    pub fn storage_buffers(&self) -> u32 {
        self.bindings().iter().filter(|(_, access)| *access != Access::Uniform).count() as u32
    }

    /// Whether y overwrites x, or dx overwrites dy.
    pub fn is_in_place(&self) -> bool {
        match self {
            Self::Normalize(Normalize { output, .. })
            | Self::ForwardChannel(ForwardChannel { output, .. })
            | Self::ForwardHeld(ForwardHeld { output, .. }) => output.in_place,
            Self::BackwardInput(BackwardInput { gradient, .. })
            | Self::BackwardChannel(BackwardChannel { gradient, .. })
            | Self::BackwardHeld(BackwardHeld { gradient, .. }) => gradient.in_place,
            _ => false,
        }
    }

    /// Invocations in a workgroup.
    pub fn workgroup_size(&self) -> u32 {
        match self {
            Self::CountBatch(_) => 1,
            Self::Moments(kernel) => kernel.workgroup_size,
            Self::Finalize(kernel) => kernel.workgroup_size,
            Self::Normalize(kernel) => kernel.workgroup_size,
            Self::ForwardChannel(kernel) => kernel.workgroup_size,
            Self::ForwardHeld(kernel) => kernel.held.workgroup_size,
            Self::BackwardSums(kernel) => kernel.workgroup_size,
            Self::BackwardFinalize(kernel) => kernel.workgroup_size,
            Self::BackwardInput(kernel) => kernel.workgroup_size,
            Self::BackwardChannel(kernel) => kernel.workgroup_size,
            Self::BackwardHeld(kernel) => kernel.held.workgroup_size,
        }
    }

    /// How its lanes merge partial results, where they do.
    fn lanes(&self) -> Lanes {
        match self {
            Self::CountBatch(_) | Self::Normalize(_) | Self::BackwardInput(_) => Lanes::Alone,
            Self::Moments(kernel) => kernel.lanes,
            Self::ForwardChannel(kernel) => kernel.lanes,
            Self::ForwardHeld(kernel) => kernel.held.lanes,
            Self::BackwardSums(kernel) => kernel.lanes,
            Self::BackwardChannel(kernel) => kernel.lanes,
            Self::BackwardHeld(kernel) => kernel.held.lanes,
            Self::Finalize(kernel) => Lanes::Tree { channels: kernel.channels_per_workgroup },
            Self::BackwardFinalize(kernel) => Lanes::Tree { channels: kernel.channels_per_workgroup },
        }
    }

    /// Bytes of workgroup memory.
    pub fn workgroup_memory(&self) -> u32 {
        match self {
            Self::ForwardHeld(ForwardHeld { held, .. }) | Self::BackwardHeld(BackwardHeld { held, .. }) => {
                held.workgroup_memory()
            }
            _ => self.lanes().partials_in_memory(self.workgroup_size()) * PARTIAL_BYTES as u32,
        }
    }

    /// Whether the kernel needs [`wgpu::Features::SUBGROUP`].
    pub fn uses_subgroups(&self) -> bool {
        matches!(self.lanes(), Lanes::Subgroup { .. })
    }

    /// Whether the kernel needs [`wgpu::Features::SHADER_F16`].
    pub fn uses_f16(&self) -> bool {
        self.source().chosen("data/storage").is_some_and(|case| case.starts_with("f16_"))
    }

    /// Whether it reads and writes f32, without an activation and a sum.
    pub fn is_plain(&self) -> bool {
        let source = self.source();
        let plain = [
            ("data/storage", "f32"),
            ("epilogue/activation", "identity"),
            ("epilogue/residual", "none"),
            ("tensors/dz", "none"),
        ];
        plain.iter().all(|(file, plain)| source.chosen(file).is_none_or(|case| case == *plain))
    }

    /// The complete shader.
    pub fn wgsl(&self) -> String {
        let source = self.source();
        let mut text = String::new();
        if self.uses_f16() {
            text.push_str("enable f16;\n");
        }
        for (name, value) in &source.constants {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        }
        match compose(&[&format!("kernel/{}", source.stem)], &source.choices) {
            Ok(composed) => text + &composed,
            // A test composes every variant.
            Err(error) => unreachable!("{}: {error}", source.stem),
        }
    }

    /// The variant in a few words, for a plan's printout; empty or with a comma in front.
    pub fn variant(&self) -> String {
        match self {
            Self::CountBatch(_) => String::new(),
            Self::Moments(kernel) => format!(", {kernel}"),
            Self::Finalize(kernel) => format!(", {kernel}"),
            Self::Normalize(kernel) => format!(", {kernel}"),
            Self::ForwardChannel(kernel) => format!(", {kernel}"),
            Self::ForwardHeld(kernel) => format!(", {kernel}"),
            Self::BackwardSums(kernel) => format!(", {kernel}"),
            Self::BackwardFinalize(kernel) => format!(", {kernel}"),
            Self::BackwardInput(kernel) => format!(", {kernel}"),
            Self::BackwardChannel(kernel) => format!(", {kernel}"),
            Self::BackwardHeld(kernel) => format!(", {kernel}"),
        }
    }

    /// Every variant there is, for the given workgroup sizes and subgroup sizes: what tests compile.
    pub fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let size = workgroup_size;
        let mut kernels = vec![Self::CountBatch(CountBatch)];
        kernels.extend(Moments::every_variant(size, subgroup_sizes).into_iter().map(Self::Moments));
        kernels.extend(Finalize::every_variant(size).into_iter().map(Self::Finalize));
        kernels.extend(Normalize::every_variant(size).into_iter().map(Self::Normalize));
        kernels.extend(
            ForwardChannel::every_variant(size, subgroup_sizes).into_iter().map(Self::ForwardChannel),
        );
        kernels.extend(ForwardHeld::every_variant(size, subgroup_sizes).into_iter().map(Self::ForwardHeld));
        kernels.extend(BackwardSums::every_variant(size, subgroup_sizes).into_iter().map(Self::BackwardSums));
        kernels.extend(BackwardFinalize::every_variant(size).into_iter().map(Self::BackwardFinalize));
        kernels.extend(BackwardInput::every_variant(size).into_iter().map(Self::BackwardInput));
        kernels.extend(
            BackwardChannel::every_variant(size, subgroup_sizes).into_iter().map(Self::BackwardChannel),
        );
        kernels.extend(BackwardHeld::every_variant(size, subgroup_sizes).into_iter().map(Self::BackwardHeld));
        kernels
    }
}
