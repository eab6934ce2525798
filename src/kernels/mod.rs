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
//! | `backward_sums` | reduces dy and x to partial sums of dy and dy·(x − mean) per channel and split |
//! | `backward_finalize` | merges the partial sums to dweight, dbias and what dx needs of them |
//! | `backward_input` | dx |

mod backward_finalize;
mod backward_input;
mod backward_sums;
mod count_batch;
mod finalize;
mod moments;
mod normalize;
mod params;

pub use backward_finalize::BackwardFinalize;
pub use backward_input::BackwardInput;
pub use backward_sums::BackwardSums;
pub use count_batch::CountBatch;
pub use finalize::Finalize;
pub use moments::Moments;
pub use normalize::Normalize;
pub use params::{Params, Splits};

use std::fmt::{self, Write};

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
    /// Scratch: partial moments or sums per split and channel.
    Partials = 9,
    /// The gradient with respect to the output.
    Dy = 10,
    /// The gradient with respect to the input.
    Dx = 11,
    /// The gradient with respect to the weight.
    DWeight = 12,
    /// The gradient with respect to the bias.
    DBias = 13,
    /// Scratch: per channel, the mean of dy and its slope along x.
    Projections = 14,
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
            Self::Dy => "dy",
            Self::Dx => "dx",
            Self::DWeight => "dweight",
            Self::DBias => "dbias",
            Self::Projections => "projections",
        }
    }
}

/// Bytes of the WGSL struct `Statistics`, one per channel.
pub const STATISTICS_BYTES: u64 = 16;

/// Bytes of the WGSL structs `Moments` and `Sums`, one per channel and split.
pub const PARTIAL_BYTES: u64 = 16;

/// Bytes of the WGSL struct `Projection`, one per channel.
pub const PROJECTION_BYTES: u64 = 16;

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

/// How many neighbouring elements are loaded and computed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// One.
    One,
    /// Four, as a vector: planes are a multiple of four long, and tensors begin at a multiple of 16 bytes.
    Four,
}

impl Width {
    /// The number.
    pub fn elements(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Four => 4,
        }
    }

    /// The WGSL piece.
    fn piece(self) -> &'static str {
        match self {
            Self::One => "value_f32",
            Self::Four => "value_vec4",
        }
    }
}

/// How a tensor's elements are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Walk {
    /// inner > 1: a workgroup takes one split of one channel's planes.
    Planes {
        /// Lanes that walk along one plane, a power of two that divides the workgroup size.
        lanes: u32,
        /// What each of them takes at once.
        width: Width,
    },
    /// inner = 1: an invocation takes every so many rows of one channel.
    Columns,
}

impl Walk {
    /// The WGSL piece.
    fn piece(self) -> &'static str {
        match self {
            Self::Planes { .. } => "walk_planes",
            Self::Columns => "walk_columns",
        }
    }

    /// What is loaded at once.
    pub fn width(self) -> Width {
        match self {
            Self::Planes { width, .. } => width,
            Self::Columns => Width::One,
        }
    }

    /// The ways to visit every element, for tests.
    fn every_variant(workgroup_size: u32) -> [Self; 4] {
        [
            Self::Planes { lanes: workgroup_size, width: Width::One },
            Self::Planes { lanes: workgroup_size, width: Width::Four },
            Self::Planes { lanes: 2, width: Width::One },
            Self::Columns,
        ]
    }

    /// The constants of the piece.
    fn constants(self) -> Vec<(&'static str, u32)> {
        match self {
            Self::Planes { lanes, .. } => vec![("LANES_PER_PLANE", lanes)],
            Self::Columns => vec![],
        }
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planes { lanes, width } => write!(f, "planes by {lanes} × {}", width.elements()),
            Self::Columns => f.write_str("columns"),
        }
    }
}

/// How the lanes of a workgroup that share a channel merge their results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lanes {
    /// They do not share one: each lane has a channel of its own.
    Alone,
    /// By halving, through workgroup memory.
    Tree {
        /// Channels a workgroup takes, a power of two; its other lanes share the work on each.
        channels: u32,
    },
    /// By shuffles within subgroups of these sizes, then through workgroup memory.
    Subgroup {
        /// Smallest subgroup the adapter may use.
        min_size: u32,
        /// Largest subgroup the adapter may use; divides the workgroup size.
        max_size: u32,
    },
}

impl Lanes {
    /// The WGSL piece.
    fn piece(self) -> &'static str {
        match self {
            Self::Alone => "lanes_alone",
            Self::Tree { .. } => "lanes_tree",
            Self::Subgroup { .. } => "lanes_subgroup",
        }
    }

    /// The constants of the piece, and the workgroup size.
    fn constants(self, workgroup_size: u32) -> Vec<(&'static str, u32)> {
        let mut constants = vec![("WORKGROUP_SIZE", workgroup_size)];
        match self {
            Self::Alone => {}
            Self::Tree { channels } => constants.push(("CHANNELS_PER_WORKGROUP", channels)),
            Self::Subgroup { min_size, max_size } => {
                constants.extend([("MIN_SUBGROUP_SIZE", min_size), ("MAX_SUBGROUP_SIZE", max_size)]);
            }
        }
        constants
    }

    /// How many partial results the workgroup holds in its memory.
    fn partials_in_memory(self, workgroup_size: u32) -> u32 {
        match self {
            Self::Alone => 0,
            Self::Tree { .. } => workgroup_size,
            Self::Subgroup { min_size, .. } => workgroup_size / min_size,
        }
    }

    /// The constants of the piece and of a walk, and the workgroup size.
    fn constants_with(self, walk: Walk, workgroup_size: u32) -> Vec<(&'static str, u32)> {
        [self.constants(workgroup_size), walk.constants()].concat()
    }

    /// The ways a kernel that reduces x can go with a walk.
    fn every_variant(workgroup_size: u32, (min_size, max_size): (u32, u32)) -> Vec<(Walk, Self)> {
        let mut variants = Vec::new();
        for walk in Walk::every_variant(workgroup_size) {
            match walk {
                Walk::Columns => variants.push((walk, Self::Alone)),
                Walk::Planes { .. } => {
                    variants.push((walk, Self::Tree { channels: 1 }));
                    variants.push((walk, Self::Subgroup { min_size, max_size }));
                }
            }
        }
        variants
    }
}

impl fmt::Display for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => f.write_str("a channel each"),
            Self::Tree { channels: 1 } => f.write_str("tree"),
            Self::Tree { channels } => write!(f, "{channels} channels a workgroup"),
            Self::Subgroup { min_size, max_size } if min_size == max_size => {
                write!(f, "subgroups of {min_size}")
            }
            Self::Subgroup { min_size, max_size } => write!(f, "subgroups of {min_size} to {max_size}"),
        }
    }
}

/// Where a channel's mean and `inv_std` come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statistics {
    /// The batch's own, as `finalize` left them.
    Batch,
    /// The running ones.
    Running,
    /// Not needed: only the bias's gradient is computed.
    None,
}

impl Statistics {
    /// The WGSL piece.
    fn piece(self) -> &'static str {
        match self {
            Self::Batch => "statistics_batch",
            Self::Running => "statistics_running",
            Self::None => "statistics_none",
        }
    }

    /// What the piece binds.
    fn bindings(self) -> Vec<(Binding, Access)> {
        match self {
            Self::Batch => vec![(Binding::Statistics, Access::Read)],
            Self::Running => vec![(Binding::RunningMean, Access::Read), (Binding::RunningVar, Access::Read)],
            Self::None => vec![],
        }
    }

    /// The name in a plan's printout.
    pub fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch statistics",
            Self::Running => "running statistics",
            Self::None => "no statistics",
        }
    }
}

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
    /// Reduces to partial moments.
    Moments(Moments),
    /// Merges partial moments.
    Finalize(Finalize),
    /// Normalises.
    Normalize(Normalize),
    /// Reduces to partial sums for backward.
    BackwardSums(BackwardSums),
    /// Merges the partial sums.
    BackwardFinalize(BackwardFinalize),
    /// Computes dx.
    BackwardInput(BackwardInput),
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
            Self::BackwardSums(kernel) => kernel.source(),
            Self::BackwardFinalize(kernel) => kernel.source(),
            Self::BackwardInput(kernel) => kernel.source(),
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
            Self::BackwardSums(kernel) => kernel.workgroup_size,
            Self::BackwardFinalize(kernel) => kernel.workgroup_size,
            Self::BackwardInput(kernel) => kernel.workgroup_size,
        }
    }

    /// How its lanes merge partial results, where they do.
    fn lanes(&self) -> Lanes {
        match self {
            Self::CountBatch(_) | Self::Normalize(_) | Self::BackwardInput(_) => Lanes::Alone,
            Self::Moments(kernel) => kernel.lanes,
            Self::BackwardSums(kernel) => kernel.lanes,
            Self::Finalize(kernel) => Lanes::Tree { channels: kernel.channels_per_workgroup },
            Self::BackwardFinalize(kernel) => Lanes::Tree { channels: kernel.channels_per_workgroup },
        }
    }

    /// Bytes of workgroup memory.
    pub fn workgroup_memory(&self) -> u32 {
        self.lanes().partials_in_memory(self.workgroup_size()) * PARTIAL_BYTES as u32
    }

    /// Whether the kernel needs [`wgpu::Features::SUBGROUP`].
    pub fn uses_subgroups(&self) -> bool {
        matches!(self.lanes(), Lanes::Subgroup { .. })
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
            Self::BackwardSums(kernel) => format!(", {kernel}"),
            Self::BackwardFinalize(kernel) => format!(", {kernel}"),
            Self::BackwardInput(kernel) => format!(", {kernel}"),
        }
    }

    /// Every variant there is, for the given workgroup sizes and subgroup sizes: what tests compile.
    pub fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let size = workgroup_size;
        let mut kernels = vec![Self::CountBatch(CountBatch)];
        kernels.extend(Moments::every_variant(size, subgroup_sizes).into_iter().map(Self::Moments));
        kernels.extend(Finalize::every_variant(size).into_iter().map(Self::Finalize));
        kernels.extend(Normalize::every_variant(size).into_iter().map(Self::Normalize));
        kernels.extend(BackwardSums::every_variant(size, subgroup_sizes).into_iter().map(Self::BackwardSums));
        kernels.extend(BackwardFinalize::every_variant(size).into_iter().map(Self::BackwardFinalize));
        kernels.extend(BackwardInput::every_variant(size).into_iter().map(Self::BackwardInput));
        kernels
    }
}

/// Every WGSL file, by stem.
pub const FILES: &[(&str, &str)] = &[
    ("backward_finalize", include_str!("../../shaders/backward_finalize.wgsl")),
    ("backward_input", include_str!("../../shaders/backward_input.wgsl")),
    ("backward_sums", include_str!("../../shaders/backward_sums.wgsl")),
    ("bias_off", include_str!("../../shaders/bias_off.wgsl")),
    ("bias_on", include_str!("../../shaders/bias_on.wgsl")),
    ("compensated", include_str!("../../shaders/compensated.wgsl")),
    ("count_batch", include_str!("../../shaders/count_batch.wgsl")),
    ("dbias_off", include_str!("../../shaders/dbias_off.wgsl")),
    ("dbias_on", include_str!("../../shaders/dbias_on.wgsl")),
    ("deviation_off", include_str!("../../shaders/deviation_off.wgsl")),
    ("deviation_on", include_str!("../../shaders/deviation_on.wgsl")),
    ("dweight_off", include_str!("../../shaders/dweight_off.wgsl")),
    ("dweight_on", include_str!("../../shaders/dweight_on.wgsl")),
    ("dy_dx_in_place", include_str!("../../shaders/dy_dx_in_place.wgsl")),
    ("dy_dx_separate", include_str!("../../shaders/dy_dx_separate.wgsl")),
    ("dy_only", include_str!("../../shaders/dy_only.wgsl")),
    ("finalize", include_str!("../../shaders/finalize.wgsl")),
    ("lanes_alone", include_str!("../../shaders/lanes_alone.wgsl")),
    ("lanes_subgroup", include_str!("../../shaders/lanes_subgroup.wgsl")),
    ("lanes_tree", include_str!("../../shaders/lanes_tree.wgsl")),
    ("moments", include_str!("../../shaders/moments.wgsl")),
    ("moments_type", include_str!("../../shaders/moments_type.wgsl")),
    ("normalize", include_str!("../../shaders/normalize.wgsl")),
    ("params", include_str!("../../shaders/params.wgsl")),
    ("projection_off", include_str!("../../shaders/projection_off.wgsl")),
    ("projection_on", include_str!("../../shaders/projection_on.wgsl")),
    ("projection_type", include_str!("../../shaders/projection_type.wgsl")),
    ("remaining_batch", include_str!("../../shaders/remaining_batch.wgsl")),
    ("remaining_exact", include_str!("../../shaders/remaining_exact.wgsl")),
    ("remaining_running", include_str!("../../shaders/remaining_running.wgsl")),
    ("statistics_batch", include_str!("../../shaders/statistics_batch.wgsl")),
    ("statistics_none", include_str!("../../shaders/statistics_none.wgsl")),
    ("statistics_running", include_str!("../../shaders/statistics_running.wgsl")),
    ("statistics_type", include_str!("../../shaders/statistics_type.wgsl")),
    ("sums_type", include_str!("../../shaders/sums_type.wgsl")),
    ("tracking_off", include_str!("../../shaders/tracking_off.wgsl")),
    ("tracking_on", include_str!("../../shaders/tracking_on.wgsl")),
    ("value_f32", include_str!("../../shaders/value_f32.wgsl")),
    ("value_vec4", include_str!("../../shaders/value_vec4.wgsl")),
    ("walk_columns", include_str!("../../shaders/walk_columns.wgsl")),
    ("walk_planes", include_str!("../../shaders/walk_planes.wgsl")),
    ("weight_off", include_str!("../../shaders/weight_off.wgsl")),
    ("weight_on", include_str!("../../shaders/weight_on.wgsl")),
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
