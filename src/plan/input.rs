//! What a plan is made from: sizes, options and a profile.

use super::grid::GridPlanner;
use super::tile::tile_width;
use super::{Plan, Tuning, width};
use crate::config::BatchNormConfig;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernels::{Statistics, Storage, VectorWidth};
use crate::layout::Layout;
use crate::mode::Mode;
use crate::profile::AdapterProfile;
use crate::shape::Problem;

/// Forward or backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// The forward pass.
    Forward,
    /// The backward pass.
    Backward,
}

/// Methods that set one field each.
macro_rules! setters {
    ($($(#[$doc:meta])* $field:ident: $type:ty;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub const fn $field(self, $field: $type) -> Self {
                Self { $field, ..self }
            }
        )*
    };
}

/// Which gradients a backward pass computes, like PyTorch's `output_mask`. The others are neither computed nor
/// allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct GradientMask {
    /// dx.
    pub input: bool,
    /// dweight. A layer without a weight has none, whatever the mask says.
    pub weight: bool,
    /// dbias. A layer without a bias has none, whatever the mask says.
    pub bias: bool,
    /// dresidual, the gradient of the residual, which is added before the activation. A pass without a residual has no
    /// dresidual, whatever the mask says.
    pub residual: bool,
}

impl GradientMask {
    /// All gradients.
    pub const ALL: Self = Self { input: true, weight: true, bias: true, residual: true };
    /// No gradients, as a start for setting some.
    pub const NONE: Self = Self { input: false, weight: false, bias: false, residual: false };
    /// dx and dresidual, as for frozen parameters.
    pub const INPUT: Self = Self { input: true, residual: true, ..Self::NONE };
    /// dweight and dbias, as for the first layer of a network.
    pub const PARAMETERS: Self = Self { weight: true, bias: true, ..Self::NONE };

    setters! {
        /// Sets whether dx is computed.
        input: bool;
        /// Sets whether dweight is computed.
        weight: bool;
        /// Sets whether dbias is computed.
        bias: bool;
        /// Sets whether dresidual is computed.
        residual: bool;
    }
}

impl Default for GradientMask {
    fn default() -> Self {
        Self::ALL
    }
}

/// The input of a plan, besides the options of its pass.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PlanInput<'a> {
    /// The sizes of x.
    pub problem: Problem,
    /// The options of the layer.
    pub config: &'a BatchNormConfig,
    /// The mode, as in [`BatchNorm::train`](crate::BatchNorm::train). A backward pass has the mode of the forward pass
    /// before it.
    pub mode: Mode,
    /// The capabilities of the adapter.
    pub profile: &'a AdapterProfile,
    /// A measured tuning. `None` means [`Tuning::new`].
    pub tuning: Option<Tuning>,
}

impl<'a> PlanInput<'a> {
    /// Creates the input of a plan with the tuning that needs no measurement.
    pub fn new(
        problem: &Problem,
        config: &'a BatchNormConfig,
        mode: Mode,
        profile: &'a AdapterProfile,
    ) -> Self {
        Self { problem: *problem, config, mode, profile, tuning: None }
    }

    /// Sets a measured tuning. `None` goes back to [`Tuning::new`].
    #[must_use]
    pub fn tuning(self, tuning: impl Into<Option<Tuning>>) -> Self {
        Self { tuning: tuning.into(), ..self }
    }

    /// Checks the options, and the problem against them.
    pub(super) fn check(&self) -> Result<()> {
        let Problem { outer, channels, inner } = self.problem;
        self.config.validate()?;
        self.config.problem(&[outer, channels, inner], Layout::ChannelsFirst, self.mode).map(|_| ())
    }

    /// Checks whether the pass uses batch statistics.
    pub(super) fn uses_batch_statistics(&self) -> bool {
        self.config.uses_batch_statistics(self.mode)
    }

    /// Returns the source of the mean and the variance.
    pub(super) fn statistics(&self) -> Statistics {
        if self.uses_batch_statistics() { Statistics::Batch } else { Statistics::Running }
    }

    /// Returns the given tuning, or else the default for loads of this width.
    pub(super) fn tuning_for(&self, width: VectorWidth, dtype: DType) -> Tuning {
        let tuning = self.tuning.unwrap_or_else(|| Tuning::new(&self.problem, width, self.profile));
        self.without_scalar_packed_tile(tuning, dtype)
    }

    /// Checks whether workgroups keep whole channels of `tensors` tensors in registers.
    pub(super) fn is_resident(&self, width: VectorWidth, tuning: Tuning, tensors: u32) -> bool {
        GridPlanner::new(&self.problem, width, self.profile, tuning).tile(tensors).is_some()
    }

    /// Returns the plan of this width. If the width is above one, adds the plan for tensors that are not aligned to it.
    pub(super) fn plan_with_fallback(
        &self,
        width: VectorWidth,
        tuning: Tuning,
        plan: impl Fn(&GridPlanner<'_>) -> Result<Plan>,
    ) -> Result<Plan> {
        let Self { problem, profile, .. } = self;
        let mut planned = plan(&GridPlanner::new(problem, width, profile, tuning))?;
        let narrower = match width {
            VectorWidth::Scalar => return Ok(planned),
            VectorWidth::Four => VectorWidth::Scalar,
            VectorWidth::Eight => VectorWidth::Four,
        };
        let tuning = Tuning::new(problem, narrower, profile);
        planned.unaligned = Some(Box::new(self.plan_with_fallback(narrower, tuning, plan)?));
        Ok(planned)
    }

    /// Turns the resident kernel off if it would load and store halves of words one by one, although wider loads are
    /// possible. Stores of halves are atomic. (Software drivers load four halves faster than four f16.)
    fn without_scalar_packed_tile(&self, tuning: Tuning, dtype: DType) -> Tuning {
        let width = width(&self.problem, dtype, self.profile);
        let is_scalar =
            tile_width(&self.problem, width) == VectorWidth::Scalar && width != VectorWidth::Scalar;
        let halves = Storage::new(dtype, VectorWidth::Scalar, self.profile).is_words()
            || (dtype != DType::F32 && self.profile.is_cpu());
        Tuning { tile_loads: if is_scalar && halves { 0 } else { tuning.tile_loads }, ..tuning }
    }
}

/// Options of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct ForwardOptions {
    /// Whether y overwrites x.
    pub in_place: bool,
    /// Whether a residual is added before the activation.
    pub residual: bool,
    /// The element type of x, y and residual.
    pub dtype: DType,
}

impl ForwardOptions {
    /// Returns the options of an f32 pass that is out of place and adds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets whether y overwrites x.
        in_place: bool;
        /// Sets whether a residual is added before the activation.
        residual: bool;
        /// Sets the element type of x, y and residual.
        dtype: DType;
    }
}

/// Options of a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct BackwardOptions {
    /// Which gradients are computed.
    pub mask: GradientMask,
    /// Whether dx overwrites dy.
    pub in_place: bool,
    /// Whether dweight and dbias are added to what their buffers hold.
    pub accumulate: bool,
    /// Whether a residual was added before the activation.
    pub residual: bool,
    /// The element type of x, dy, dx, residual and dresidual.
    pub dtype: DType,
}

impl BackwardOptions {
    /// Returns the options of an f32 pass that computes all gradients, is out of place and adds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets which gradients are computed.
        mask: GradientMask;
        /// Sets whether dx overwrites dy.
        in_place: bool;
        /// Sets whether dweight and dbias are added to what their buffers hold.
        accumulate: bool;
        /// Sets whether a residual was added before the activation.
        residual: bool;
        /// Sets the element type of x, dy, dx, residual and dresidual.
        dtype: DType;
    }
}
