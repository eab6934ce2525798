//! Inference: the forward pass in eval without `&mut`.

use crate::dtype::{DType, Element};
use crate::error::Result;
use crate::kernels::Binding;
use crate::layer::arrays::in_dimension;
use crate::layer::forward::unless_same_memory;
use crate::layer::{BatchNorm, PlanKey};
use crate::mode::Mode;
use crate::plan::ForwardOptions;
use crate::record::Buffers;
use crate::tensor::Tensor;
use ndarray::{Array, ArrayView, Dimension};

impl BatchNorm {
    /// Normalises `x` as in eval, whatever the layer's mode, and applies the activation:
    ///
    /// ```text
    /// y = activation(weight · (x − running_mean) / sqrt(running_var + eps) + bias)
    /// ```
    ///
    /// Without running statistics, those of the batch take their place, as in PyTorch. Returns a new tensor of the same
    /// shape, layout and element type. The bits are those of [`forward`](Self::forward) in eval.
    ///
    /// The layer saves nothing and changes nothing, so several threads may call this at once. A pass runs with the
    /// parameters and statistics that were written before it was submitted. If a backward pass
    /// will follow, use [`forward_saved`](Self::forward_saved).
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn infer(&self, x: &Tensor) -> Result<Tensor> {
        self.infer_to_new(x, None)
    }

    /// Runs [`infer`](Self::infer), and adds `residual` before the activation, as [`forward_add`](Self::forward_add)
    /// does.
    ///
    /// # Errors
    /// As [`forward_add`](Self::forward_add).
    pub fn infer_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.infer_to_new(x, Some(residual))
    }

    /// Runs [`infer`](Self::infer) into `y`, which lies in another buffer or is `x` itself. Nothing of a tensor's size
    /// is allocated.
    ///
    /// # Errors
    /// As [`forward_into`](Self::forward_into).
    pub fn infer_into(&self, x: &Tensor, y: &Tensor) -> Result<()> {
        self.submit_inference(unless_same_memory(x, y), None, y)
    }

    /// Uploads `x`, runs [`infer`](Self::infer) and reads the result back. The layout is
    /// [`BatchNormConfig::layout`](crate::BatchNormConfig::layout). Each call has buffers of its own, since several may
    /// run at once: in one thread, [`forward_array`](Self::forward_array) in eval is faster.
    ///
    /// # Errors
    /// As [`forward_array`](Self::forward_array).
    pub fn infer_array<T: Element, D: Dimension>(&self, x: ArrayView<'_, T, D>) -> Result<Array<T, D>> {
        let read = self.infer_uploaded(&x)?.to_array_of::<T>()?;
        in_dimension(read.into_raw_vec_and_offset().0, x.raw_dim())
    }

    /// Runs [`infer_array`](Self::infer_array) without blocking, as
    /// [`forward_array_async`](Self::forward_array_async) does.
    ///
    /// # Errors
    /// As [`infer_array`](Self::infer_array).
    pub async fn infer_array_async<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
    ) -> Result<Array<T, D>> {
        self.prepare_async(self.inference(x.shape(), T::DTYPE)?).await?;
        let read = self.infer_uploaded(&x)?.to_array_of_async::<T>().await?;
        in_dimension(read.into_raw_vec_and_offset().0, x.raw_dim())
    }

    fn infer_uploaded<T: Element, D: Dimension>(&self, x: &ArrayView<'_, T, D>) -> Result<Tensor> {
        let layout = self.config.layout;
        // Checks x before the upload.
        self.prepare(self.inference(x.shape(), T::DTYPE)?)?;
        let x = Tensor::from_array(&self.gpu, x.view())?.with_layout(layout);
        // Nobody else has this tensor.
        self.infer_into(&x, &x)?;
        Ok(x)
    }

    /// Returns the key of the plan for an uploaded array, which y overwrites.
    fn inference(&self, shape: &[usize], dtype: DType) -> Result<PlanKey> {
        let options = ForwardOptions::new().in_place(true).dtype(dtype);
        self.forward_key(shape, self.config.layout, Mode::Eval, options)
    }

    fn infer_to_new(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        x.check_device(&self.gpu, "x")?;
        let options = ForwardOptions::new().residual(residual.is_some()).dtype(x.dtype());
        self.prepare_forward(x.shape(), x.layout(), Mode::Eval, options)?;
        let y = Tensor::zeros_of(&self.gpu, x.dtype(), x.shape(), x.layout())?;
        self.submit_inference(Some(x), residual, &y)?;
        Ok(y)
    }

    /// Records and submits. Without `x`, `y` is normalised in place.
    fn submit_inference(&self, x: Option<&Tensor>, residual: Option<&Tensor>, y: &Tensor) -> Result<()> {
        let prepared = self.checked_forward(x, residual, y, Mode::Eval)?;
        // Batch statistics need memory that no other call writes to at the same time.
        let mut own = Vec::new();
        for (binding, bytes) in prepared.plan().buffers() {
            if [Binding::Statistics, Binding::Partials, Binding::Projections].contains(&binding) {
                own.push((binding, self.gpu.storage_buffer(binding.name(), bytes)?));
            }
        }
        let of_call =
            |wanted| own.iter().find(|(binding, _)| *binding == wanted).map(|(_, buffer)| buffer.into());
        let bound = prepared.bind(&Buffers {
            x: x.map(Tensor::binding),
            residual: residual.map(Tensor::binding),
            y: Some(y.binding()),
            statistics: of_call(Binding::Statistics),
            partials: of_call(Binding::Partials),
            projections: of_call(Binding::Projections),
            ..self.buffers()
        })?;
        self.gpu.scoped(|| {
            let mut encoder = self.gpu.encoder();
            bound.record(&mut encoder);
            self.gpu.queue().submit([encoder.finish()]);
            Ok(())
        })
    }
}
