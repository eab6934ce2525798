//! The forward pass of the layer, on tensors.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernels::Binding;
use crate::layer::BatchNorm;
use crate::layer::Saved;
use crate::layer::{Pass, PlanKey};
use crate::layout::Layout;
use crate::mode::Mode;
use crate::plan::{ForwardOptions, Plan, PlanInput};
use crate::record::{Buffers, PreparedPlan};
use crate::tensor::Tensor;
use std::sync::Arc;

impl BatchNorm {
    /// Returns the plan of a forward pass over `x` in the layer's current mode: the kernels that run, and their
    /// geometry, by the tunings of [`Gpu::set_tunings`](crate::Gpu::set_tunings) if there are any. The element type is
    /// that of `x`, whatever the options say.
    ///
    /// # Errors
    /// The errors of [`forward`](Self::forward) that concern the shape.
    pub fn plan(&self, x: &Tensor, options: &ForwardOptions) -> Result<Plan> {
        let problem = self.config.problem(x.shape(), x.layout(), self.mode)?;
        let input = PlanInput::new(&problem, &self.config, self.mode, self.gpu.profile());
        self.gpu.tunings().forward(&input, &options.dtype(x.dtype()))
    }

    /// Normalises `x` and applies the activation. Returns a new tensor of the same shape, layout and element type.
    ///
    /// wgpu clears a new tensor before the first write. [`forward_into`](Self::forward_into) a tensor that was used
    /// before saves that pass over memory, as in a loop over equal shapes.
    ///
    /// # Errors
    /// If the input does not fit: [`Error::Rank`](crate::Error::Rank), [`Error::NoChannels`](crate::Error::NoChannels),
    /// [`Error::Channels`](crate::Error::Channels),
    /// [`Error::OneValuePerChannel`](crate::Error::OneValuePerChannel),
    /// [`Error::TooManyElements`](crate::Error::TooManyElements),
    /// [`Error::BindingTooLarge`](crate::Error::BindingTooLarge),
    /// [`Error::ForeignDevice`](crate::Error::ForeignDevice). If an option was set to a value out of its range:
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig). If the device's limits are too low:
    /// [`Error::Limit`](crate::Error::Limit). If the GPU fails:
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::Gpu`](crate::Error::Gpu).
    pub fn forward(&mut self, x: &Tensor) -> Result<Tensor> {
        let (y, passed) = self.forward_to_new(x, None)?;
        self.keep(passed);
        Ok(y)
    }

    /// Runs [`forward`](Self::forward), and also returns what [`backward_saved`](Self::backward_saved) needs, in eval,
    /// too.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_saved(&mut self, x: &Tensor) -> Result<(Tensor, Saved)> {
        self.forward_to_new_saved(x, None)
    }

    /// Runs [`forward`](Self::forward), and adds `residual` to the normalised input before the activation:
    /// `y = activation(bn(x) + residual)`, the end of a residual block.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) or [`Error::ElementType`](crate::Error::ElementType)
    /// unless `residual` has the shape, layout and element type of x. As [`forward`](Self::forward).
    pub fn forward_add(&mut self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let (y, passed) = self.forward_to_new(x, Some(residual))?;
        self.keep(passed);
        Ok(y)
    }

    /// Runs [`forward_add`](Self::forward_add), and also returns what [`backward_saved`](Self::backward_saved) needs,
    /// in eval, too.
    ///
    /// # Errors
    /// As [`forward_add`](Self::forward_add).
    pub fn forward_add_saved(&mut self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Saved)> {
        self.forward_to_new_saved(x, Some(residual))
    }

    fn forward_to_new_saved(&mut self, x: &Tensor, residual: Option<&Tensor>) -> Result<(Tensor, Saved)> {
        let (y, passed) = self.forward_to_new(x, residual)?;
        let saved = passed.saved.clone().ok_or(Error::NoForward)?;
        self.keep(passed);
        Ok((y, saved))
    }

    fn forward_to_new(&mut self, x: &Tensor, residual: Option<&Tensor>) -> Result<(Tensor, Passed)> {
        // Checks x before y is allocated.
        x.check_device(&self.gpu, "x")?;
        let options = ForwardOptions { in_place: false, residual: residual.is_some(), dtype: x.dtype() };
        self.prepare_forward(x.shape(), x.layout(), self.mode, options)?;
        let y = Tensor::zeros_of(&self.gpu, x.dtype(), x.shape(), x.layout())?;
        let passed = self.submit(|layer, encoder| layer.record(encoder, Some(x), residual, &y))?;
        Ok((y, passed))
    }

    /// Normalises `x` into `y`. `y` must have the same shape, layout and element type, and lie in another buffer.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch), [`Error::SharedBuffer`](crate::Error::SharedBuffer). As
    /// [`forward`](Self::forward).
    pub fn forward_into(&mut self, x: &Tensor, y: &Tensor) -> Result<()> {
        self.submit_forward(Some(x), None, y)
    }

    /// Runs [`forward_add`](Self::forward_add) into `y`, which lies in another buffer or is `x` itself. If it is `x`,
    /// y overwrites x, and no backward pass can follow.
    ///
    /// # Errors
    /// As [`forward_into`](Self::forward_into) and [`forward_add`](Self::forward_add).
    pub fn forward_add_into(&mut self, x: &Tensor, residual: &Tensor, y: &Tensor) -> Result<()> {
        self.submit_forward(unless_same_memory(x, y), Some(residual), y)
    }

    /// Normalises `x` in place.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_in_place(&mut self, x: &Tensor) -> Result<()> {
        self.submit_forward(None, None, x)
    }

    /// Records [`forward_into`](Self::forward_into) in the caller's command encoder. The caller submits it, so
    /// several layers can share one submission.
    ///
    /// # Errors
    /// As [`forward_into`](Self::forward_into). On an error, nothing is recorded.
    pub fn record_forward(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        x: &Tensor,
        y: &Tensor,
    ) -> Result<()> {
        let passed = self.record(encoder, Some(x), None, y)?;
        self.keep(passed);
        self.mark_shared(&[Some(x), Some(y), self.statistics.as_ref()]);
        Ok(())
    }

    /// Records [`forward_add_into`](Self::forward_add_into) in the caller's command encoder.
    ///
    /// # Errors
    /// As [`forward_add_into`](Self::forward_add_into). On an error, nothing is recorded.
    pub fn record_forward_add(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        x: &Tensor,
        residual: &Tensor,
        y: &Tensor,
    ) -> Result<()> {
        let passed = self.record(encoder, unless_same_memory(x, y), Some(residual), y)?;
        self.keep(passed);
        self.mark_shared(&[Some(x), Some(residual), Some(y), self.statistics.as_ref()]);
        Ok(())
    }

    /// Records [`forward_in_place`](Self::forward_in_place) in the caller's command encoder.
    ///
    /// # Errors
    /// As [`forward_in_place`](Self::forward_in_place). On an error, nothing is recorded.
    pub fn record_forward_in_place(&mut self, encoder: &mut wgpu::CommandEncoder, x: &Tensor) -> Result<()> {
        let passed = self.record(encoder, None, None, x)?;
        self.keep(passed);
        self.mark_shared(&[Some(x), self.statistics.as_ref()]);
        Ok(())
    }

    /// Checks the shape of an input, and prepares its plan unless it is cached.
    pub(crate) fn prepare_forward(
        &self,
        shape: &[usize],
        layout: Layout,
        mode: Mode,
        options: ForwardOptions,
    ) -> Result<Arc<PreparedPlan>> {
        self.prepare(self.forward_key(shape, layout, mode, options)?)
    }

    /// Checks the shape of an input, and returns the key of its plan.
    pub(crate) fn forward_key(
        &self,
        shape: &[usize],
        layout: Layout,
        mode: Mode,
        options: ForwardOptions,
    ) -> Result<PlanKey> {
        let problem = self.config.problem(shape, layout, mode)?;
        Ok(PlanKey { problem, mode, pass: Pass::Forward(options) })
    }

    /// Checks all tensors of a pass, and prepares its plan unless it is cached. Without `x`, `y` is normalised in
    /// place.
    pub(crate) fn checked_forward(
        &self,
        x: Option<&Tensor>,
        residual: Option<&Tensor>,
        y: &Tensor,
        mode: Mode,
    ) -> Result<Arc<PreparedPlan>> {
        let input = x.unwrap_or(y);
        input.check_device(&self.gpu, "x")?;
        let options =
            ForwardOptions { in_place: x.is_none(), residual: residual.is_some(), dtype: input.dtype() };
        let prepared = self.prepare_forward(input.shape(), input.layout(), mode, options)?;
        if let Some(residual) = residual {
            residual.check_device(&self.gpu, "residual")?;
            residual.check_like(input, "residual")?;
        }
        y.check_device(&self.gpu, "y")?;
        y.check_like(input, "y")?;
        Ok(prepared)
    }

    /// Records in a submission of its own. Without `x`, `y` is normalised in place. If wgpu refuses the commands, none
    /// of them runs, and the layer stays as it was.
    fn submit_forward(&mut self, x: Option<&Tensor>, residual: Option<&Tensor>, y: &Tensor) -> Result<()> {
        let passed = self.submit(|layer, encoder| layer.record(encoder, x, residual, y))?;
        self.keep(passed);
        Ok(())
    }

    /// Keeps what backward and the caller may ask for after a forward pass. In eval, the layer keeps no hold of the
    /// caller's tensors.
    fn keep(&mut self, passed: Passed) {
        (self.saved, self.statistics) =
            (passed.saved.filter(|saved| saved.mode.is_training()), passed.statistics);
    }

    /// The same after a pass on tensors of the layer's own.
    pub(crate) fn keep_own(&mut self, passed: Passed) {
        (self.saved, self.statistics) = (passed.saved, passed.statistics);
    }

    /// Binds and records. Without `x`, `y` is normalised in place.
    pub(crate) fn record(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        x: Option<&Tensor>,
        residual: Option<&Tensor>,
        y: &Tensor,
    ) -> Result<Passed> {
        let prepared = self.checked_forward(x, residual, y, self.mode)?;
        let plan = prepared.plan();
        self.reserve_scratch(plan)?;
        let uses_batch = plan.buffers().iter().any(|(binding, _)| *binding == Binding::Statistics);
        let statistics = uses_batch
            .then(|| {
                let of_saved = self.saved.as_ref().and_then(Saved::statistics);
                let released = [self.statistics.as_ref(), of_saved];
                let shape = [self.config.num_features, 4];
                let of_statistics = (DType::F32, &shape[..], Layout::ChannelsFirst);
                self.statistics_memory.tensor(&self.gpu, of_statistics, &released)
            })
            .transpose()?;
        let bound = prepared.bind(&Buffers {
            x: x.map(Tensor::binding),
            residual: residual.map(Tensor::binding),
            y: Some(y.binding()),
            statistics: statistics.as_ref().map(Tensor::binding),
            ..self.buffers()
        })?;
        bound.record(encoder);
        let mode = self.mode;
        let saved = x.map(|x| Saved {
            x: x.clone(),
            residual: residual.cloned(),
            mode,
            statistics: statistics.clone(),
        });
        Ok(Passed { saved, statistics })
    }
}

/// What a forward pass leaves behind, once nothing can fail any more.
pub(crate) struct Passed {
    saved: Option<Saved>,
    statistics: Option<Tensor>,
}

/// Returns x, unless y overwrites it.
pub(crate) fn unless_same_memory<'a>(x: &'a Tensor, y: &Tensor) -> Option<&'a Tensor> {
    (!x.is_same_memory(y)).then_some(x)
}
