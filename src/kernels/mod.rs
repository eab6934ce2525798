//! The kernels: the WGSL files of each, its constants and its bindings.
//!
//! A kernel's source begins with constants. Then come the shader files that the kernel's own file uses, each with its
//! chosen case, and at last that file: `shaders/kernel/STEM.wgsl`. The Rust sides, in `forward.rs` and `backward.rs`,
//! choose the cases. The entry point is `main` of `shaders/entry.wgsl`, which calls the kernel. `count_batch` has its
//! own entry point.
//!
//! | kernel | does |
//! |---|---|
//! | `count_batch` | adds 1 to `num_batches_tracked` |
//! | `moments` | reduces x to moments (count, mean, sum of squared deviations) per channel and split |
//! | `finalize` | merges the partial moments into statistics, updates the running statistics |
//! | `normalize` | computes y = activation((x − mean) · weight · `inv_std` + bias + residual) |
//! | `forward_one_dispatch` | does all of that in one dispatch, if each channel has one workgroup or lane |
//! | `forward_resident` | does the same, but keeps the channel in registers, so that x is read once |
//! | `backward_sums` | reduces dy and x to sums of dy and dy·(x − mean) per channel and split |
//! | `backward_finalize` | merges the partial sums into dweight, dbias and what dx needs of them |
//! | `backward_input` | computes dx and dresidual |
//! | `backward_one_dispatch` | does all three in one dispatch |
//! | `backward_resident` | does the same, but reads x and dy once |

mod backward;
mod binding;
pub(crate) mod compose;
mod epilogue;
mod forward;
mod gradients;
mod lanes;
mod params;
mod running;
mod statistics;
mod storage;
mod tile;
mod traversal;

pub use crate::activation::ActivationKind;
pub use backward::{BackwardFinalize, BackwardInput, BackwardOneDispatch, BackwardResident, BackwardSums};
pub use binding::{Access, Binding};
pub use epilogue::{InputGradient, Output, PreActivation};
pub use forward::{
    CountBatch, Finalize, ForwardOneDispatch, ForwardResident, Moments, MomentsResult, Normalize,
};
pub use gradients::ChannelGradients;
pub use lanes::Lanes;
pub use params::{Params, Splits};
pub use running::RunningUpdate;
pub use statistics::Statistics;
pub use storage::Storage;
pub use tile::Tile;
pub use traversal::{Traversal, VectorWidth};

use compose::{Choice, Section, compose};
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::{LazyLock, PoisonError, RwLock};

/// Bytes of a channel's statistics: mean (two parts), `inv_std`, variance.
pub const STATISTICS_BYTES: u64 = 16;

/// Bytes of a partial result, one per channel and split: packed `Moments` or `Sums`.
pub const PARTIAL_BYTES: u64 = 16;

/// Bytes of a channel's `Projection`.
pub const PROJECTION_BYTES: u64 = 16;

/// A kernel with all options that it is compiled for.
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
    /// Does all of that at once.
    ForwardOneDispatch(ForwardOneDispatch),
    /// Does the same, but reads x once.
    ForwardResident(ForwardResident),
    /// Reduces to sums for backward.
    BackwardSums(BackwardSums),
    /// Merges the partial sums.
    BackwardFinalize(BackwardFinalize),
    /// Computes dx and dresidual.
    BackwardInput(BackwardInput),
    /// Does all of that at once.
    BackwardOneDispatch(BackwardOneDispatch),
    /// Does the same, but reads x and dy once.
    BackwardResident(BackwardResident),
}

/// How many vectors a lane of a reduction loads before it uses the first.
const VECTORS_AT_ONCE: (&str, u32) = ("VECTORS_AT_ONCE", 4);

/// The parts of a kernel.
struct Source {
    /// The name of its file.
    stem: &'static str,
    /// Invocations in a workgroup.
    workgroup_size: u32,
    /// How lanes merge partial results.
    lanes: Lanes,
    /// Channels for which a lane has partial results.
    channels_at_once: u32,
    /// Whether y overwrites x, or dx overwrites dy.
    in_place: bool,
    /// Constants that the shader is compiled with.
    constants: Vec<(&'static str, u32)>,
    /// The chosen case of each shader file that has cases.
    choices: Vec<Choice>,
}

impl Source {
    fn new(stem: &'static str, lanes: Lanes, workgroup_size: u32) -> Self {
        Self {
            stem,
            workgroup_size,
            lanes,
            channels_at_once: 1,
            in_place: false,
            constants: lanes.constants(workgroup_size),
            choices: lanes.choices().to_vec(),
        }
    }

    /// Creates the source of a kernel that keeps whole channels in registers.
    fn resident(stem: &'static str, tile: &Tile) -> Self {
        Self::new(stem, tile.lanes, tile.workgroup_size)
            .traversal(tile.traversal)
            .constants([("TILE_VECTORS", tile.vectors()), VECTORS_AT_ONCE])
            .choose([("iterate/resident", tile.case())])
    }

    fn choose(mut self, choices: impl IntoIterator<Item = Choice>) -> Self {
        self.choices.extend(choices);
        self
    }

    fn traversal(mut self, traversal: Traversal) -> Self {
        self.channels_at_once = traversal.channels_at_once();
        self.constants(traversal.constants()).choose(traversal.choices())
    }

    fn constants(mut self, constants: impl IntoIterator<Item = (&'static str, u32)>) -> Self {
        self.constants.extend(constants);
        self
    }

    fn output(mut self, output: Output, width: VectorWidth) -> Self {
        self.in_place = output.in_place;
        self.choose(output.choices(width))
    }

    fn gradient(mut self, gradient: InputGradient, width: VectorWidth, batch: bool) -> Self {
        self.in_place = gradient.in_place;
        self.choose(gradient.choices(width, batch))
    }

    /// Returns the chosen case of a file.
    fn chosen(&self, file: &str) -> Option<&'static str> {
        self.choices.iter().find(|(name, _)| *name == file).map(|(_, case)| *case)
    }

    fn uses_f16(&self) -> bool {
        self.chosen("data/storage").is_some_and(|case| case.starts_with("f16_"))
    }

    /// Returns the sections of the kernel's shader files, each with its heading.
    fn sections(&self) -> Vec<(String, &'static Section)> {
        match compose(&[&format!("kernel/{}", self.stem)], &self.choices) {
            Ok(sections) => sections,
            // A test composes every variant.
            Err(error) => unreachable!("{}: {error}", self.stem),
        }
    }
}

/// A kernel with its options. It displays as the variant in a few words, for a plan's printout.
trait Variant: fmt::Display {
    fn source(&self) -> Source;
}

impl Kernel {
    fn variant_of(&self) -> &dyn Variant {
        match self {
            Self::CountBatch(kernel) => kernel,
            Self::Moments(kernel) => kernel,
            Self::Finalize(kernel) => kernel,
            Self::Normalize(kernel) => kernel,
            Self::ForwardOneDispatch(kernel) => kernel,
            Self::ForwardResident(kernel) => kernel,
            Self::BackwardSums(kernel) => kernel,
            Self::BackwardFinalize(kernel) => kernel,
            Self::BackwardInput(kernel) => kernel,
            Self::BackwardOneDispatch(kernel) => kernel,
            Self::BackwardResident(kernel) => kernel,
        }
    }

    fn source(&self) -> Source {
        self.variant_of().source()
    }

    /// The name of the entry point of every kernel.
    pub const ENTRY_POINT: &str = "main";

    /// Returns the name of the kernel: its file's stem.
    pub fn stem(&self) -> &'static str {
        self.source().stem
    }

    /// Returns what the kernel's shader declares: bindings and how they are used, in the order of their numbers.
    pub fn bindings(&self) -> Vec<(Binding, Access)> {
        // Engines bind plans often, and composing takes longer than binding.
        type Known = HashMap<Kernel, Vec<(Binding, Access)>>;
        static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);
        // A panic while the lock is held does not change the map.
        if let Some(bindings) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(self) {
            return bindings.clone();
        }
        let sections = self.source().sections();
        let mut bindings: Vec<_> =
            sections.into_iter().flat_map(|(_, section)| section.bindings.iter().copied()).collect();
        bindings.sort_unstable_by_key(|(binding, _)| *binding);
        KNOWN.write().unwrap_or_else(PoisonError::into_inner).insert(*self, bindings.clone());
        bindings
    }

    /// Returns the number of storage buffers that the kernel binds.
    pub fn storage_buffers(&self) -> u32 {
        self.bindings().iter().filter(|(_, access)| *access != Access::Uniform).count() as u32
    }

    /// Returns whether y overwrites x, or dx overwrites dy.
    pub fn is_in_place(&self) -> bool {
        self.source().in_place
    }

    /// Returns the invocations in a workgroup.
    pub fn workgroup_size(&self) -> u32 {
        self.source().workgroup_size
    }

    /// Returns the bytes of workgroup memory.
    pub fn workgroup_memory(&self) -> u32 {
        let source = self.source();
        source.lanes.workgroup_memory(source.workgroup_size, source.channels_at_once)
    }

    /// Returns whether the kernel needs [`wgpu::Features::SUBGROUP`].
    pub fn uses_subgroups(&self) -> bool {
        matches!(self.source().lanes, Lanes::Subgroup { .. })
    }

    /// Returns whether the kernel needs [`wgpu::Features::SHADER_F16`].
    pub fn uses_f16(&self) -> bool {
        self.source().uses_f16()
    }

    /// Returns the smallest and the largest subgroup that lanes merge in, if they do.
    pub(crate) fn subgroup_sizes(&self) -> Option<(u32, u32)> {
        match self.source().lanes {
            Lanes::Subgroup { min_size, max_size } => Some((min_size, max_size)),
            _ => None,
        }
    }

    /// Returns the features of the device that the kernel needs.
    pub(crate) fn features(&self) -> wgpu::Features {
        let mut features = wgpu::Features::empty();
        features.set(wgpu::Features::SUBGROUP, self.uses_subgroups());
        features.set(wgpu::Features::SHADER_F16, self.uses_f16());
        features
    }

    /// Returns the complete shader.
    pub fn wgsl(&self) -> String {
        let source = self.source();
        let mut text = String::new();
        if source.uses_f16() {
            text.push_str("enable f16;\n");
        }
        // Writing to a string cannot fail.
        for (name, value) in &source.constants {
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        }
        for (heading, section) in source.sections() {
            let _ = write!(text, "{heading}{}", section.text);
        }
        text
    }

    /// Returns the variant in a few words, for a plan's printout: empty, or with a comma in front.
    pub fn variant(&self) -> String {
        let variant = self.variant_of().to_string();
        if variant.is_empty() { variant } else { format!(", {variant}") }
    }
}
