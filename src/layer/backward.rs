//! The backward pass of the layer, on tensors.

use crate::config::BatchNormConfig;
use crate::error::{Error, Result};
use crate::layer::BatchNorm;
use crate::layer::{Pass, PlanKey};
use crate::layout::Layout;
use crate::mode::Mode;
use crate::plan::{BackwardOptions, GradientMask};
use crate::record::{Buffers, PreparedPlan};
use crate::tensor::Tensor;
use std::sync::Arc;

/// What backward needs of a forward pass: the input and the added tensor (handles, not copies), and the batch
/// statistics. From these, backward recomputes the input of the activation.
///
/// An autodiff engine stores it in the node of its graph, and passes it to [`BatchNorm::backward_saved`]. The
/// contents of x and residual must not change until then.
#[derive(Clone, Debug)]
pub struct Saved {
    pub(crate) x: Tensor,
    pub(crate) residual: Option<Tensor>,
    pub(crate) mode: Mode,
    pub(crate) statistics: Option<Tensor>,
}

/// What [`BatchNorm::backward_into`] does with the contents of dweight and dbias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientWrite {
    /// Overwrites them.
    Replace,
    /// Adds to them, as for a batch that comes in several parts (PyTorch without `zero_grad()`).
    Accumulate,
}

impl Saved {
    /// Returns what backward needs of a pass with running statistics: its input, and `residual` if that was added. For
    /// passes in eval that were recorded, and for [`BatchNorm::infer`], which save nothing.
    pub fn of_eval(x: &Tensor, residual: Option<&Tensor>) -> Self {
        Self { x: x.clone(), residual: residual.cloned(), mode: Mode::Eval, statistics: None }
    }

    /// Returns the key of the backward plan.
    pub(crate) fn key(
        &self,
        config: &BatchNormConfig,
        mask: GradientMask,
        in_place: bool,
        write: GradientWrite,
    ) -> Result<PlanKey> {
        let (residual, dtype) = (self.residual.is_some(), self.x.dtype());
        let accumulate = write == GradientWrite::Accumulate;
        let options = BackwardOptions { mask, in_place, accumulate, residual, dtype };
        let problem = config.problem(self.x.shape(), self.x.layout(), self.mode)?;
        Ok(PlanKey { problem, mode: self.mode, pass: Pass::Backward(options) })
    }

    /// Returns the input of the forward pass.
    pub fn x(&self) -> &Tensor {
        &self.x
    }

    /// Returns the tensor that was added to the normalised input, if any.
    pub fn residual(&self) -> Option<&Tensor> {
        self.residual.as_ref()
    }

    /// Returns the mode of the forward pass.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the batch statistics, `[C, 4]`: the mean, its remainder (what the f32 mean lacks of the exact mean),
    /// `1 / sqrt(var + eps)`, and the biased variance. `None` if the pass used running statistics, or if the batch
    /// was empty.
    pub fn statistics(&self) -> Option<&Tensor> {
        self.statistics.as_ref()
    }
}

/// Gradients of a loss with respect to the input, weight and bias of a layer, and to the added tensor. A gradient
/// that was not requested is `None`. Clones are handles to the same tensors.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Gradients {
    /// dx, of the shape and layout of x.
    pub input: Option<Tensor>,
    /// dweight, `[C]`. `None` without a weight.
    pub weight: Option<Tensor>,
    /// dbias, `[C]`. `None` without a bias.
    pub bias: Option<Tensor>,
    /// dresidual, of the shape, layout and element type of x. `None` if nothing was added.
    pub residual: Option<Tensor>,
}

impl Gradients {
    /// Returns an empty set of gradients.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the gradients of the learnable parameters by the names of [`BatchNorm::parameters`], in the same order.
    pub fn parameters(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        [("weight", &self.weight), ("bias", &self.bias)]
            .into_iter()
            .filter_map(|(name, tensor)| Some((name, tensor.as_ref()?)))
    }

    tensor_setters! {
        /// Sets dx; `None` removes it.
        input;
        /// Sets dweight; `None` removes it.
        weight;
        /// Sets dbias; `None` removes it.
        bias;
        /// Sets dresidual; `None` removes it.
        residual;
    }
}

impl BatchNorm {
    /// Returns the gradients of a loss. `dy` is its gradient with respect to the output of the last forward pass.
    ///
    /// The sums run over the n values of a channel:
    ///
    /// ```text
    /// dweight = Σ dy·x_hat        dbias = Σ dy
    /// dx = weight·inv_std·(dy − Σdy/n − x_hat·Σ(dy·x_hat)/n)    after batch statistics
    /// dx = weight·inv_std·dy                                    after running statistics
    /// ```
    ///
    /// With an activation, dy is first multiplied by the derivative of the activation. The product is also dresidual,
    /// the gradient with respect to the tensor that [`forward_add`](Self::forward_add) added.
    ///
    /// The gradient flows through batch statistics too (section 3 of the paper); running statistics are constants.
    /// The mode is that of the *forward pass*. The parameters and the running statistics are the *current* ones. An
    /// empty batch gives an empty dx, and zeros for dweight and dbias. A second call gives the same gradients again.
    ///
    /// # Errors
    /// [`Error::NoForward`] without a forward pass, or after one in place or on a tensor in eval
    /// ([`forward_saved`](Self::forward_saved) serves there); [`Error::ShapeMismatch`] unless `dy` has
    /// the shape and layout of the last x; [`Error::ElementType`] unless it has the element type of the last x;
    /// [`Error::ForeignDevice`]; [`Error::OutOfMemory`]; [`Error::Gpu`].
    pub fn backward(&mut self, dy: &Tensor) -> Result<Gradients> {
        self.backward_masked(dy, GradientMask::ALL)
    }

    /// Runs [`backward`](Self::backward) for some of the gradients. The others are neither computed nor allocated.
    ///
    /// # Errors
    /// As [`backward`](Self::backward).
    pub fn backward_masked(&mut self, dy: &Tensor, mask: GradientMask) -> Result<Gradients> {
        let saved = self.saved().ok_or(Error::NoForward)?;
        self.backward_saved(&saved, dy, mask)
    }

    /// Runs [`backward_masked`](Self::backward_masked) for any earlier forward pass: the functional form.
    ///
    /// # Errors
    /// As [`backward`](Self::backward).
    pub fn backward_saved(&mut self, saved: &Saved, dy: &Tensor, mask: GradientMask) -> Result<Gradients> {
        self.check_backward(saved, dy)?;
        let BatchNormConfig { weight, bias, .. } = *self.config();
        let gpu = self.gpu().clone();
        let vector = |wanted: bool| {
            let shape = [self.config().num_features];
            wanted.then(|| Tensor::zeros(&gpu, &shape, Layout::ChannelsFirst)).transpose()
        };
        let like_dy = |wanted: bool| {
            wanted.then(|| Tensor::zeros_of(&gpu, dy.dtype(), dy.shape(), dy.layout())).transpose()
        };
        let gradients = Gradients {
            input: like_dy(mask.input)?,
            weight: vector(mask.weight && weight)?,
            bias: vector(mask.bias && bias)?,
            residual: like_dy(mask.residual && saved.residual.is_some())?,
        };
        self.backward_into(saved, dy, &gradients, GradientWrite::Replace)?;
        Ok(gradients)
    }

    /// Writes the gradients to existing tensors. A gradient that is `None` is not computed.
    ///
    /// `gradients.input` may be `dy` itself. dx then overwrites dy, and nothing of the tensor's size is allocated.
    /// wgpu clears new tensors before the first write, but not tensors that were used before. `write` decides what
    /// happens to the contents of dweight and dbias. dx and dresidual always overwrite.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::ParameterLength`], [`Error::SharedBuffer`]; [`Error::StateMismatch`] if
    /// dweight is requested of a layer without a weight, dbias of one without a bias, or dresidual of a pass that added
    /// nothing. As [`backward`](Self::backward).
    pub fn backward_into(
        &mut self,
        saved: &Saved,
        dy: &Tensor,
        gradients: &Gradients,
        write: GradientWrite,
    ) -> Result<()> {
        self.submit(|layer, encoder| layer.record_gradients(encoder, saved, dy, gradients, write))
    }

    /// Records [`backward_into`](Self::backward_into) in the caller's command encoder. The caller submits it.
    ///
    /// # Errors
    /// As [`backward_into`](Self::backward_into). On an error, nothing is recorded.
    pub fn record_backward(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        saved: &Saved,
        dy: &Tensor,
        gradients: &Gradients,
        write: GradientWrite,
    ) -> Result<()> {
        self.record_gradients(encoder, saved, dy, gradients, write)?;
        let Gradients { input, weight, bias, residual } = gradients;
        self.mark_shared(&[Some(&saved.x), saved.residual(), saved.statistics(), Some(dy)]);
        self.mark_shared(&[input.as_ref(), weight.as_ref(), bias.as_ref(), residual.as_ref()]);
        Ok(())
    }

    pub(crate) fn record_gradients(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        saved: &Saved,
        dy: &Tensor,
        gradients: &Gradients,
        write: GradientWrite,
    ) -> Result<()> {
        self.check_backward(saved, dy)?;
        self.check_gradients(saved, gradients, dy)?;
        let in_place = gradients.input.as_ref().is_some_and(|dx| dx.is_same_memory(dy));
        let prepared = self.prepare_backward(saved, gradients, in_place, write)?;
        self.reserve_scratch(prepared.plan())?;
        let bound = prepared.bind(&Buffers {
            x: Some(saved.x.binding()),
            dy: Some(dy.binding()),
            statistics: saved.statistics.as_ref().map(Tensor::binding),
            dx: gradients.input.as_ref().map(Tensor::binding),
            dweight: gradients.weight.as_ref().map(Tensor::binding),
            dbias: gradients.bias.as_ref().map(Tensor::binding),
            residual: saved.residual.as_ref().map(Tensor::binding),
            dresidual: gradients.residual.as_ref().map(Tensor::binding),
            ..self.buffers()
        })?;
        bound.record(encoder);
        Ok(())
    }

    /// Returns the mask of all gradients that this layer has, after a pass with or without a residual.
    pub(crate) fn all_gradients(&self, residual: bool) -> GradientMask {
        let BatchNormConfig { weight, bias, .. } = *self.config();
        GradientMask { input: true, weight, bias, residual }
    }

    fn prepare_backward(
        &self,
        saved: &Saved,
        gradients: &Gradients,
        in_place: bool,
        write: GradientWrite,
    ) -> Result<Arc<PreparedPlan>> {
        let mask = GradientMask {
            input: gradients.input.is_some(),
            weight: gradients.weight.is_some(),
            bias: gradients.bias.is_some(),
            residual: gradients.residual.is_some(),
        };
        self.prepare(saved.key(self.config(), mask, in_place, write)?)
    }

    pub(crate) fn check_backward(&self, saved: &Saved, dy: &Tensor) -> Result<()> {
        saved.x.check_device(self.gpu(), "x")?;
        dy.check_device(self.gpu(), "dy")?;
        dy.check_like(&saved.x, "dy")?;
        self.config().problem(saved.x.shape(), saved.x.layout(), saved.mode).map(|_| ())
    }

    fn check_gradients(&self, saved: &Saved, gradients: &Gradients, dy: &Tensor) -> Result<()> {
        for (name, tensor) in [("dx", &gradients.input), ("dresidual", &gradients.residual)] {
            let Some(tensor) = tensor else { continue };
            tensor.check_device(self.gpu(), name)?;
            tensor.check_like(dy, name)?;
        }
        if gradients.residual.is_some() && saved.residual.is_none() {
            return Err(Error::StateMismatch { name: "dresidual", expected: false });
        }
        let BatchNormConfig { weight, bias, .. } = *self.config();
        let vectors = [("dweight", &gradients.weight, weight), ("dbias", &gradients.bias, bias)];
        for (name, vector, has_parameter) in vectors {
            let Some(vector) = vector else { continue };
            if !has_parameter {
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
