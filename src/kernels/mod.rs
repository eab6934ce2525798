//! The kernels: which WGSL files make one up, which constants it is compiled with, what it binds.
//!
//! A kernel's source is plain concatenation: constants, then the shared pieces it names, then its own file.
//! Each kernel's Rust side is the file of the same stem here. The entry point is `main` of `entry_plain.wgsl` or
//! `entry_subgroups.wgsl`, which calls the kernel.
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

use std::fmt::Write;

/// Bytes of a channel's statistics: mean (two parts), `inv_std`, variance.
pub const STATISTICS_BYTES: u64 = 16;

/// Bytes of a partial result, one per channel and split: packed `Moments` or `Sums`.
pub const PARTIAL_BYTES: u64 = 16;

/// Bytes of a channel's `Projection`.
pub const PROJECTION_BYTES: u64 = 16;

/// One of two files: the piece that does something, or the one that does nothing in its place.
fn choose(condition: bool, on: &'static str, off: &'static str) -> &'static str {
    if condition { on } else { off }
}

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
    /// Shared pieces, in the order they are put together.
    pieces: Vec<&'static str>,
    /// What it binds.
    bindings: Vec<(Binding, Access)>,
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
        self.source().pieces.iter().any(|piece| piece.starts_with("storage_f16"))
    }

    /// Whether it reads and writes f32, without an activation and a sum.
    pub fn is_plain(&self) -> bool {
        let plain = ["storage_f32", "activation_identity", "residual_off"];
        let other = |piece: &&str| {
            ["storage_", "activation_", "residual_", "dz_w", "dz_h"]
                .iter()
                .any(|prefix| piece.starts_with(prefix))
        };
        self.source().pieces.iter().filter(|piece| !plain.contains(piece)).all(|piece| !other(piece))
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
        for file in source.pieces.iter().chain([&source.stem]) {
            let _ = write!(text, "\n// {file}.wgsl\n{}", file_text(file));
        }
        text
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

/// Every WGSL file, by stem.
pub const FILES: &[(&str, &str)] = &[
    ("activation_gelu", include_str!("../../shaders/activation_gelu.wgsl")),
    ("activation_gelu_tanh", include_str!("../../shaders/activation_gelu_tanh.wgsl")),
    ("activation_identity", include_str!("../../shaders/activation_identity.wgsl")),
    ("activation_leaky_relu", include_str!("../../shaders/activation_leaky_relu.wgsl")),
    ("activation_relu", include_str!("../../shaders/activation_relu.wgsl")),
    ("activation_relu6", include_str!("../../shaders/activation_relu6.wgsl")),
    ("activation_sigmoid", include_str!("../../shaders/activation_sigmoid.wgsl")),
    ("activation_silu", include_str!("../../shaders/activation_silu.wgsl")),
    ("activation_tanh", include_str!("../../shaders/activation_tanh.wgsl")),
    ("alone", include_str!("../../shaders/alone.wgsl")),
    ("backward_channel", include_str!("../../shaders/backward_channel.wgsl")),
    ("backward_finalize", include_str!("../../shaders/backward_finalize.wgsl")),
    ("backward_held", include_str!("../../shaders/backward_held.wgsl")),
    ("backward_input", include_str!("../../shaders/backward_input.wgsl")),
    ("backward_sums", include_str!("../../shaders/backward_sums.wgsl")),
    ("bias_off", include_str!("../../shaders/bias_off.wgsl")),
    ("bias_on", include_str!("../../shaders/bias_on.wgsl")),
    ("bits_bf16", include_str!("../../shaders/bits_bf16.wgsl")),
    ("bits_f16", include_str!("../../shaders/bits_f16.wgsl")),
    ("compensated", include_str!("../../shaders/compensated.wgsl")),
    ("conclude_backward", include_str!("../../shaders/conclude_backward.wgsl")),
    ("conclude_forward", include_str!("../../shaders/conclude_forward.wgsl")),
    ("count_batch", include_str!("../../shaders/count_batch.wgsl")),
    ("count_one_batch", include_str!("../../shaders/count_one_batch.wgsl")),
    ("dbias_off", include_str!("../../shaders/dbias_off.wgsl")),
    ("dbias_on", include_str!("../../shaders/dbias_on.wgsl")),
    ("deviation_off", include_str!("../../shaders/deviation_off.wgsl")),
    ("deviation_on", include_str!("../../shaders/deviation_on.wgsl")),
    ("dweight_off", include_str!("../../shaders/dweight_off.wgsl")),
    ("dweight_on", include_str!("../../shaders/dweight_on.wgsl")),
    ("dx_halves", include_str!("../../shaders/dx_halves.wgsl")),
    ("dx_off", include_str!("../../shaders/dx_off.wgsl")),
    ("dx_whole", include_str!("../../shaders/dx_whole.wgsl")),
    ("dy_in_place_halves", include_str!("../../shaders/dy_in_place_halves.wgsl")),
    ("dy_in_place_whole", include_str!("../../shaders/dy_in_place_whole.wgsl")),
    ("dy_read", include_str!("../../shaders/dy_read.wgsl")),
    ("dz_halves", include_str!("../../shaders/dz_halves.wgsl")),
    ("dz_off", include_str!("../../shaders/dz_off.wgsl")),
    ("dz_whole", include_str!("../../shaders/dz_whole.wgsl")),
    ("entry_plain", include_str!("../../shaders/entry_plain.wgsl")),
    ("entry_subgroups", include_str!("../../shaders/entry_subgroups.wgsl")),
    ("exponential", include_str!("../../shaders/exponential.wgsl")),
    ("finalize", include_str!("../../shaders/finalize.wgsl")),
    ("forward_channel", include_str!("../../shaders/forward_channel.wgsl")),
    ("forward_held", include_str!("../../shaders/forward_held.wgsl")),
    ("gradient", include_str!("../../shaders/gradient.wgsl")),
    ("held", include_str!("../../shaders/held.wgsl")),
    ("hyperbolic", include_str!("../../shaders/hyperbolic.wgsl")),
    ("lanes_alone", include_str!("../../shaders/lanes_alone.wgsl")),
    ("lanes_subgroup", include_str!("../../shaders/lanes_subgroup.wgsl")),
    ("lanes_tree", include_str!("../../shaders/lanes_tree.wgsl")),
    ("logistic", include_str!("../../shaders/logistic.wgsl")),
    ("moments", include_str!("../../shaders/moments.wgsl")),
    ("moments_of", include_str!("../../shaders/moments_of.wgsl")),
    ("moments_type", include_str!("../../shaders/moments_type.wgsl")),
    ("momentum_cumulative", include_str!("../../shaders/momentum_cumulative.wgsl")),
    ("momentum_fixed", include_str!("../../shaders/momentum_fixed.wgsl")),
    ("momentum_type", include_str!("../../shaders/momentum_type.wgsl")),
    ("normal", include_str!("../../shaders/normal.wgsl")),
    ("normalize", include_str!("../../shaders/normalize.wgsl")),
    ("number_f32", include_str!("../../shaders/number_f32.wgsl")),
    ("number_vec4", include_str!("../../shaders/number_vec4.wgsl")),
    ("params", include_str!("../../shaders/params.wgsl")),
    ("places_columns", include_str!("../../shaders/places_columns.wgsl")),
    ("places_planes", include_str!("../../shaders/places_planes.wgsl")),
    ("positive", include_str!("../../shaders/positive.wgsl")),
    ("projection_none", include_str!("../../shaders/projection_none.wgsl")),
    ("projection_of", include_str!("../../shaders/projection_of.wgsl")),
    ("projection_off", include_str!("../../shaders/projection_off.wgsl")),
    ("projection_on", include_str!("../../shaders/projection_on.wgsl")),
    ("projection_stored", include_str!("../../shaders/projection_stored.wgsl")),
    ("projection_type", include_str!("../../shaders/projection_type.wgsl")),
    ("remaining_batch", include_str!("../../shaders/remaining_batch.wgsl")),
    ("remaining_exact", include_str!("../../shaders/remaining_exact.wgsl")),
    ("remaining_running", include_str!("../../shaders/remaining_running.wgsl")),
    ("residual_off", include_str!("../../shaders/residual_off.wgsl")),
    ("residual_on", include_str!("../../shaders/residual_on.wgsl")),
    ("result_gradients", include_str!("../../shaders/result_gradients.wgsl")),
    ("result_partial", include_str!("../../shaders/result_partial.wgsl")),
    ("result_statistics", include_str!("../../shaders/result_statistics.wgsl")),
    ("round_f16", include_str!("../../shaders/round_f16.wgsl")),
    ("run", include_str!("../../shaders/run.wgsl")),
    ("statistics_batch", include_str!("../../shaders/statistics_batch.wgsl")),
    ("statistics_none", include_str!("../../shaders/statistics_none.wgsl")),
    ("statistics_running", include_str!("../../shaders/statistics_running.wgsl")),
    ("statistics_type", include_str!("../../shaders/statistics_type.wgsl")),
    ("storage_f16_four", include_str!("../../shaders/storage_f16_four.wgsl")),
    ("storage_f16_one", include_str!("../../shaders/storage_f16_one.wgsl")),
    ("storage_f32", include_str!("../../shaders/storage_f32.wgsl")),
    ("storage_halves", include_str!("../../shaders/storage_halves.wgsl")),
    ("storage_pairs", include_str!("../../shaders/storage_pairs.wgsl")),
    ("sums_of", include_str!("../../shaders/sums_of.wgsl")),
    ("sums_type", include_str!("../../shaders/sums_type.wgsl")),
    ("tracking_off", include_str!("../../shaders/tracking_off.wgsl")),
    ("tracking_on", include_str!("../../shaders/tracking_on.wgsl")),
    ("upstream_activated", include_str!("../../shaders/upstream_activated.wgsl")),
    ("upstream_plain", include_str!("../../shaders/upstream_plain.wgsl")),
    ("value_four_across", include_str!("../../shaders/value_four_across.wgsl")),
    ("value_four_along", include_str!("../../shaders/value_four_along.wgsl")),
    ("value_one", include_str!("../../shaders/value_one.wgsl")),
    ("visit_16", include_str!("../../shaders/visit_16.wgsl")),
    ("visit_4", include_str!("../../shaders/visit_4.wgsl")),
    ("visit_64", include_str!("../../shaders/visit_64.wgsl")),
    ("walk_columns", include_str!("../../shaders/walk_columns.wgsl")),
    ("walk_planes", include_str!("../../shaders/walk_planes.wgsl")),
    ("walk_ragged", include_str!("../../shaders/walk_ragged.wgsl")),
    ("weight_off", include_str!("../../shaders/weight_off.wgsl")),
    ("weight_on", include_str!("../../shaders/weight_on.wgsl")),
    ("whole", include_str!("../../shaders/whole.wgsl")),
    ("x_in_place_halves", include_str!("../../shaders/x_in_place_halves.wgsl")),
    ("x_in_place_whole", include_str!("../../shaders/x_in_place_whole.wgsl")),
    ("x_read", include_str!("../../shaders/x_read.wgsl")),
    ("y_halves", include_str!("../../shaders/y_halves.wgsl")),
    ("y_whole", include_str!("../../shaders/y_whole.wgsl")),
];

fn file_text(stem: &str) -> &'static str {
    match FILES.iter().find(|(name, _)| *name == stem) {
        Some((_, text)) => text,
        None => unreachable!("no shader file {stem}.wgsl in the table"),
    }
}
