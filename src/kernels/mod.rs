//! The kernels: which WGSL files make one up, which constants it is compiled with, what it binds.
//!
//! A kernel's source is plain concatenation: constants, then the shared pieces it names, then its own file,
//! whose stem is the name of the entry point. Each kernel's Rust side is the file of the same stem here.
//!
//! | kernel | does |
//! |---|---|
//! | `count_batch` | adds 1 to `num_batches_tracked` |
//! | `moments` | reduces x to partial moments (count, mean, sum of squared deviations) per channel and split |
//! | `finalize` | merges the partial moments to statistics, moves the running statistics |
//! | `normalize` | y = (x − mean) · weight · `inv_std` + bias |

mod count_batch;
mod finalize;
mod moments;
mod normalize;
mod params;

pub use count_batch::CountBatch;
pub use finalize::Finalize;
pub use moments::{Lanes, Moments};
pub use normalize::Normalize;
pub use params::Params;

use std::fmt::Write;

/// A tensor or table that kernels bind. Its number is its binding in every kernel, in group 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Binding {
    /// The uniform of sizes and options.
    Params = 0,
    /// The input.
    X = 1,
    /// The output.
    Y = 2,
    /// Per channel: mean (two parts), `inv_std`, variance of the batch.
    Statistics = 3,
    /// γ.
    Weight = 4,
    /// β.
    Bias = 5,
    /// Running average of the mean.
    RunningMean = 6,
    /// Running average of the unbiased variance.
    RunningVar = 7,
    /// Number of batches seen, 64 bits.
    NumBatchesTracked = 8,
    /// Scratch: partial moments per split and channel.
    Partials = 9,
}

impl Binding {
    /// The name of the variable in WGSL, which is also the name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Params => "params",
            Self::X => "x",
            Self::Y => "y",
            Self::Statistics => "statistics",
            Self::Weight => "weight",
            Self::Bias => "bias",
            Self::RunningMean => "running_mean",
            Self::RunningVar => "running_var",
            Self::NumBatchesTracked => "num_batches_tracked",
            Self::Partials => "partials",
        }
    }
}

/// Bytes of the WGSL struct `Statistics`, one per channel.
pub const STATISTICS_BYTES: u64 = 16;

/// Bytes of the WGSL struct `Moments`, one per channel and split.
pub const MOMENTS_BYTES: u64 = 16;

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// A uniform buffer.
    Uniform,
    /// A storage buffer that is read.
    Read,
    /// A storage buffer that is written, and perhaps read.
    ReadWrite,
}

/// How a tensor's elements are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Walk {
    /// inner > 1: a workgroup takes one split of one channel's planes.
    Planes,
    /// inner = 1: an invocation takes every so many rows of one channel.
    Columns,
}

impl Walk {
    /// The WGSL piece.
    fn piece(self) -> &'static str {
        match self {
            Self::Planes => "walk_planes",
            Self::Columns => "walk_columns",
        }
    }

    /// The name in a plan's printout.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planes => "planes",
            Self::Columns => "columns",
        }
    }
}

/// One kernel with all that it is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// Counts a batch.
    CountBatch(CountBatch),
    /// Reduces to partial moments.
    Moments(Moments),
    /// Merges partial moments.
    Finalize(Finalize),
    /// Normalises.
    Normalize(Normalize),
}

/// What a kernel is made of.
struct Source {
    /// File name and entry point.
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
        }
    }

    /// The name of the kernel: its file's stem and its entry point.
    pub fn stem(&self) -> &'static str {
        self.source().stem
    }

    /// What the kernel binds, and how.
    pub fn bindings(&self) -> Vec<(Binding, Access)> {
        self.source().bindings
    }

    /// Invocations in a workgroup.
    pub fn workgroup_size(&self) -> u32 {
        match self {
            Self::CountBatch(_) => 1,
            Self::Moments(kernel) => kernel.workgroup_size,
            Self::Finalize(kernel) => kernel.workgroup_size,
            Self::Normalize(kernel) => kernel.workgroup_size,
        }
    }

    /// Bytes of workgroup memory.
    pub fn workgroup_memory(&self) -> u32 {
        let moments = match self {
            Self::CountBatch(_) | Self::Normalize(_) => 0,
            Self::Moments(kernel) => match kernel.lanes {
                Lanes::Alone => 0,
                Lanes::Tree => kernel.workgroup_size,
                Lanes::Subgroup { min_size, .. } => kernel.workgroup_size / min_size,
            },
            Self::Finalize(kernel) => kernel.workgroup_size,
        };
        moments * MOMENTS_BYTES as u32
    }

    /// Whether the kernel needs [`wgpu::Features::SUBGROUP`].
    pub fn uses_subgroups(&self) -> bool {
        matches!(self, Self::Moments(Moments { lanes: Lanes::Subgroup { .. }, .. }))
    }

    /// The complete shader.
    pub fn wgsl(&self) -> String {
        let source = self.source();
        let mut text = String::new();
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
        }
    }

    /// Every variant there is, for the given workgroup sizes and subgroup sizes: what tests compile.
    pub fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut kernels = vec![Self::CountBatch(CountBatch)];
        kernels.extend(Moments::every_variant(workgroup_size, subgroup_sizes).into_iter().map(Self::Moments));
        kernels.extend(Finalize::every_variant(workgroup_size).into_iter().map(Self::Finalize));
        kernels.extend(Normalize::every_variant(workgroup_size).into_iter().map(Self::Normalize));
        kernels
    }
}

/// Every WGSL file, by stem.
pub const FILES: &[(&str, &str)] = &[
    ("affine_off", include_str!("../../shaders/affine_off.wgsl")),
    ("affine_on", include_str!("../../shaders/affine_on.wgsl")),
    ("count_batch", include_str!("../../shaders/count_batch.wgsl")),
    ("finalize", include_str!("../../shaders/finalize.wgsl")),
    ("lanes_alone", include_str!("../../shaders/lanes_alone.wgsl")),
    ("lanes_subgroup", include_str!("../../shaders/lanes_subgroup.wgsl")),
    ("lanes_tree", include_str!("../../shaders/lanes_tree.wgsl")),
    ("moments", include_str!("../../shaders/moments.wgsl")),
    ("moments_type", include_str!("../../shaders/moments_type.wgsl")),
    ("normalize", include_str!("../../shaders/normalize.wgsl")),
    ("params", include_str!("../../shaders/params.wgsl")),
    ("statistics_batch", include_str!("../../shaders/statistics_batch.wgsl")),
    ("statistics_running", include_str!("../../shaders/statistics_running.wgsl")),
    ("statistics_type", include_str!("../../shaders/statistics_type.wgsl")),
    ("tracking_off", include_str!("../../shaders/tracking_off.wgsl")),
    ("tracking_on", include_str!("../../shaders/tracking_on.wgsl")),
    ("walk_columns", include_str!("../../shaders/walk_columns.wgsl")),
    ("walk_planes", include_str!("../../shaders/walk_planes.wgsl")),
    ("x_only", include_str!("../../shaders/x_only.wgsl")),
    ("x_y_in_place", include_str!("../../shaders/x_y_in_place.wgsl")),
    ("x_y_separate", include_str!("../../shaders/x_y_separate.wgsl")),
];

fn file_text(stem: &str) -> &'static str {
    match FILES.iter().find(|(name, _)| *name == stem) {
        Some((_, text)) => text,
        None => unreachable!("no shader file {stem}.wgsl in the table"),
    }
}
