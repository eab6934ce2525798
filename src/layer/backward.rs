//! The backward pass of the layer, on tensors.

use crate::error::{Error, Result};
use crate::layer::BatchNorm;
use crate::layer::{Pass, PlanKey};
use crate::layout::Layout;
use crate::plan::{BackwardOptions, GradientMask};
use crate::record::{Buffers, PreparedPlan};
use crate::tensor::Tensor;
use std::sync::Arc;

/// What a forward pass leaves for its backward pass: the input and what was added (handles, not copies), and the
/// statistics it was normalised with. What an activation was applied to is computed from these once more.
///
/// An autodiff engine keeps it with the node of its graph, and hands it to
/// [`BatchNorm::backward_saved`]. Until then the contents of x and z must not change.
#[derive(Clone, Debug)]
pub struct Saved {
    pub(crate) x: Tensor,
    pub(crate) z: Option<Tensor>,
    pub(crate) training: bool,
    pub(crate) statistics: Option<Tensor>,
}

impl Saved {
    /// The input of the forward pass.
    pub fn x(&self) -> &Tensor {
        &self.x
    }

    /// What was added to the normalised input, if anything.
    pub fn z(&self) -> Option<&Tensor> {
        self.z.as_ref()
    }

    /// Whether the forward pass was in training mode.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// The batch's statistics, `[C, 4]`: mean, what the mean lacks of the exact one, 1 / sqrt(var + eps), and
    /// the biased variance. `None` when the running statistics were used, or the batch was empty.
    pub fn statistics(&self) -> Option<&Tensor> {
        self.statistics.as_ref()
    }
}

/// The gradients of a loss with respect to the input, the weight and the bias of a layer, and to what was added;
/// those that were wanted. Clones are handles to the same tensors.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Gradients {
    /// dx, of the shape and layout of x.
    pub input: Option<Tensor>,
    /// dweight, `[C]`. `None` without affine.
    pub weight: Option<Tensor>,
    /// dbias, `[C]`. `None` without affine.
    pub bias: Option<Tensor>,
    /// dz, of the shape, layout and element type of x. `None` where nothing was added.
    pub residual: Option<Tensor>,
}

impl Gradients {
    /// No gradients yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets dx; `None` takes it away.
    #[must_use]
    pub fn input(self, input: impl Into<Option<Tensor>>) -> Self {
        Self { input: input.into(), ..self }
    }

    /// Sets dweight; `None` takes it away.
    #[must_use]
    pub fn weight(self, weight: impl Into<Option<Tensor>>) -> Self {
        Self { weight: weight.into(), ..self }
    }

    /// Sets dbias; `None` takes it away.
    #[must_use]
    pub fn bias(self, bias: impl Into<Option<Tensor>>) -> Self {
        Self { bias: bias.into(), ..self }
    }

    /// Sets dz; `None` takes it away.
    #[must_use]
    pub fn residual(self, residual: impl Into<Option<Tensor>>) -> Self {
        Self { residual: residual.into(), ..self }
    }
}

impl BatchNorm {
    /// [`forward`](Self::forward), returning what [`backward_saved`](Self::backward_saved) needs as well.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_saved(&mut self, x: &Tensor) -> Result<(Tensor, Saved)> {
        let y = self.forward(x)?;
        let saved = self.saved().cloned().ok_or(Error::NoForward)?;
        Ok((y, saved))
    }

    /// The gradients of a loss, given its gradient `dy` with respect to the output of the last forward pass.
    ///
    /// With sums over the n values of a channel:
    ///
    /// ```text
    /// dweight = Σ dy·x_hat        dbias = Σ dy
    /// dx = weight·inv_std·(dy − Σdy/n − x_hat·Σ(dy·x_hat)/n)    after batch statistics
    /// dx = weight·inv_std·dy                                    after running statistics
    /// ```
    ///
    /// With an activation, dy is multiplied by its derivative first; that is also dz, the gradient with respect to
    /// what [`forward_add`](Self::forward_add) added.
    ///
    /// Through batch statistics the gradient flows as through everything else (the paper's section 3);
    /// running statistics are constants. It is the mode of the *forward pass* that counts, and the weight
    /// (and running statistics) as they are *now*. An empty batch has an empty dx, and zeros for the others.
    /// Called again, it gives the same gradients again.
    ///
    /// # Errors
    /// [`Error::NoForward`] without a forward pass, or after one in place; [`Error::ShapeMismatch`] when `dy`
    /// has not the shape and layout of the last x, and [`Error::ElementType`] when it has not its element type;
    /// [`Error::ForeignDevice`]; [`Error::OutOfMemory`]; [`Error::Gpu`]. [`Error::Limit`] on devices that bind only
    /// eight buffers, with an activation of a sum, unless dx overwrites dy.
    pub fn backward(&mut self, dy: &Tensor) -> Result<Gradients> {
        self.backward_masked(dy, GradientMask::ALL)
    }

    /// [`backward`](Self::backward) for some of the gradients: the others are neither computed nor allocated.
    ///
    /// # Errors
    /// As [`backward`](Self::backward).
    pub fn backward_masked(&mut self, dy: &Tensor, mask: GradientMask) -> Result<Gradients> {
        let saved = self.saved().cloned().ok_or(Error::NoForward)?;
        self.backward_saved(&saved, dy, mask)
    }

    /// The functional form: [`backward_masked`](Self::backward_masked) for any earlier forward pass.
    ///
    /// # Errors
    /// As [`backward`](Self::backward).
    pub fn backward_saved(&mut self, saved: &Saved, dy: &Tensor, mask: GradientMask) -> Result<Gradients> {
        self.check_backward(saved, dy)?;
        let affine = self.config().affine;
        let gpu = self.gpu().clone();
        let vector = |wanted: bool| {
            let shape = [self.config().num_features];
            (wanted && affine).then(|| Tensor::zeros(&gpu, &shape, Layout::ChannelsFirst)).transpose()
        };
        let like_dy = |wanted: bool| {
            wanted.then(|| Tensor::zeros_of(&gpu, dy.dtype(), dy.shape(), dy.layout())).transpose()
        };
        let gradients = Gradients {
            input: like_dy(mask.input)?,
            weight: vector(mask.weight)?,
            bias: vector(mask.bias)?,
            residual: like_dy(mask.residual && saved.z.is_some())?,
        };
        self.backward_into(saved, dy, &gradients, false)?;
        Ok(gradients)
    }

    /// Writes the gradients to tensors there are; those that are `None` are not computed.
    ///
    /// `gradients.input` may be `dy` itself: then dx overwrites dy, and nothing of the tensor's size is
    /// allocated. Tensors that were used before are not cleared first, as new ones are by wgpu. With
    /// `accumulate`, the gradients of weight and bias are added to what their tensors hold, as for a batch that
    /// comes in several parts; dx never is.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::ParameterLength`], [`Error::SharedBuffer`];
    /// [`Error::StateMismatch`] when a gradient of weight or bias is asked of a layer without affine; as
    /// [`backward`](Self::backward).
    pub fn backward_into(
        &mut self,
        saved: &Saved,
        dy: &Tensor,
        gradients: &Gradients,
        accumulate: bool,
    ) -> Result<()> {
        self.submit(|layer, encoder| layer.record_gradients(encoder, saved, dy, gradients, accumulate))
    }

    /// Records [`backward_into`](Self::backward_into) in a command encoder of the caller's, who submits it.
    ///
    /// # Errors
    /// As [`backward_into`](Self::backward_into). Nothing is recorded then.
    pub fn record_backward(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        saved: &Saved,
        dy: &Tensor,
        gradients: &Gradients,
        accumulate: bool,
    ) -> Result<()> {
        self.record_gradients(encoder, saved, dy, gradients, accumulate)?;
        let Gradients { input, weight, bias, residual } = gradients;
        self.mark_shared(&[Some(&saved.x), saved.z(), saved.statistics(), Some(dy)]);
        self.mark_shared(&[input.as_ref(), weight.as_ref(), bias.as_ref(), residual.as_ref()]);
        Ok(())
    }

    pub(crate) fn record_gradients(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        saved: &Saved,
        dy: &Tensor,
        gradients: &Gradients,
        accumulate: bool,
    ) -> Result<()> {
        self.check_backward(saved, dy)?;
        self.check_gradients(saved, gradients, dy)?;
        let in_place = gradients.input.as_ref().is_some_and(|dx| dx.is_same_memory(dy));
        let prepared = self.prepare_backward(saved, gradients, in_place, accumulate)?;
        self.reserve_scratch(prepared.plan())?;
        let bound = prepared.bind(&Buffers {
            x: Some(saved.x.binding()),
            dy: Some(dy.binding()),
            statistics: saved.statistics.as_ref().map(Tensor::binding),
            dx: gradients.input.as_ref().map(Tensor::binding),
            dweight: gradients.weight.as_ref().map(Tensor::binding),
            dbias: gradients.bias.as_ref().map(Tensor::binding),
            z: saved.z.as_ref().map(Tensor::binding),
            dz: gradients.residual.as_ref().map(Tensor::binding),
            ..self.buffers()
        })?;
        bound.record(encoder);
        Ok(())
    }

    fn prepare_backward(
        &mut self,
        saved: &Saved,
        gradients: &Gradients,
        in_place: bool,
        accumulate: bool,
    ) -> Result<Arc<PreparedPlan>> {
        let mask = GradientMask {
            input: gradients.input.is_some(),
            weight: gradients.weight.is_some(),
            bias: gradients.bias.is_some(),
            residual: gradients.residual.is_some(),
        };
        let (residual, dtype) = (saved.z.is_some(), saved.x.dtype());
        let options = BackwardOptions { mask, in_place, accumulate, residual, dtype };
        let problem = self.config().problem(saved.x.shape(), saved.x.layout(), saved.training)?;
        self.prepare(PlanKey { problem, training: saved.training, pass: Pass::Backward(options) })
    }

    pub(crate) fn check_backward(&self, saved: &Saved, dy: &Tensor) -> Result<()> {
        saved.x.check_device(self.gpu(), "x")?;
        dy.check_device(self.gpu(), "dy")?;
        dy.check_like(&saved.x, "dy")?;
        self.config().problem(saved.x.shape(), saved.x.layout(), saved.training).map(|_| ())
    }

    fn check_gradients(&self, saved: &Saved, gradients: &Gradients, dy: &Tensor) -> Result<()> {
        for (name, tensor) in [("dx", &gradients.input), ("dz", &gradients.residual)] {
            let Some(tensor) = tensor else { continue };
            tensor.check_device(self.gpu(), name)?;
            tensor.check_like(dy, name)?;
        }
        if gradients.residual.is_some() && saved.z.is_none() {
            return Err(Error::StateMismatch { name: "dz", expected: false });
        }
        for (name, vector) in [("dweight", &gradients.weight), ("dbias", &gradients.bias)] {
            let Some(vector) = vector else { continue };
            if !self.config().affine {
                return Err(Error::StateMismatch { name, expected: false });
            }
            vector.check_device(self.gpu(), name)?;
            vector.check_type::<f32>(name)?;
            let (length, num_features) = (vector.shape().iter().product(), self.config().num_features);
            if length != num_features {
                return Err(Error::ParameterLength { name, length, num_features });
            }
        }
        Ok(())
    }
}
