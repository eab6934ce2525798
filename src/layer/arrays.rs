//! The layer on arrays: `ndarray` in, `ndarray` out, blocking and async.
//!
//! A call uploads, computes and reads back in one submission. It reuses the last call's buffers if they are large
//! enough.

use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::gpu::transfer::{self, Readback, Region, Staging};
use crate::layer::BatchNorm;
use crate::layer::GradientWrite;
use crate::layer::{Gradients, Saved};
use crate::layout::Layout;
use crate::plan::ForwardOptions;
use crate::tensor::Tensor;
use crate::tensor::memory::ReusableBuffer;
use ndarray::{Array, Array1, ArrayView, Dimension};

/// [`Gradients`] as arrays. dx and dresidual have the element type of x.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrayGradients<D: Dimension, T = f32> {
    /// dx, of the shape of x.
    pub input: Array<T, D>,
    /// dweight, `[C]`. `None` without a weight.
    pub weight: Option<Array1<f32>>,
    /// dbias, `[C]`. `None` without a bias.
    pub bias: Option<Array1<f32>>,
    /// dresidual, of the shape of x. `None` if nothing was added.
    pub residual: Option<Array<T, D>>,
}

/// Buffers that the array passes of a layer keep between calls.
#[derive(Debug, Default)]
pub(crate) struct ArrayBuffers {
    staging: Staging,
    x: ReusableBuffer,
    /// Holds y in forward. Holds dy in backward, and dx overwrites it.
    y: ReusableBuffer,
    residual: ReusableBuffer,
    dresidual: ReusableBuffer,
    dweight: ReusableBuffer,
    dbias: ReusableBuffer,
}

impl BatchNorm {
    /// Uploads `x`, normalises it and reads the result back. The layout is
    /// [`BatchNormConfig::layout`](crate::BatchNormConfig::layout). The uploaded x stays on the GPU for
    /// [`backward_array`](Self::backward_array), until the next call or [`clear_saved`](Self::clear_saved).
    ///
    /// The layer keeps the buffers, on the GPU and for the transfers, for the next call.
    /// [`release_buffers`](Self::release_buffers) frees them.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); [`Error::Readback`].
    pub fn forward_array<T: Element, D: Dimension>(&mut self, x: ArrayView<'_, T, D>) -> Result<Array<T, D>> {
        let (y, staging) = self.start_forward(&x, None)?.wait(first)?;
        self.finish_forward(y, staging, x.raw_dim())
    }

    /// Runs [`forward_array`](Self::forward_array) without blocking: the future is ready when the result has been
    /// read back. It needs no particular executor. The GPU's own threads plan, compile and wait; what a poll does is to
    /// copy x into memory of the driver. After [`warm_up`](Self::warm_up), the first poll submits the pass, which runs
    /// even if the future is dropped. Its result is then lost. Before, the pass is submitted when its kernels are
    /// compiled.
    ///
    /// # Errors
    /// As [`forward_array`](Self::forward_array).
    pub async fn forward_array_async<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
    ) -> Result<Array<T, D>> {
        self.prepare_array(T::DTYPE, x.shape(), false).await?;
        let (y, staging) = self.start_forward(&x, None)?.wait_async(first).await?;
        self.finish_forward(y, staging, x.raw_dim())
    }

    /// Runs [`forward_array`](Self::forward_array) with `residual` added before the activation, as in
    /// [`forward_add`](Self::forward_add).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] unless `residual` has the shape of x. As [`forward_array`](Self::forward_array).
    pub fn forward_add_array<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
        residual: ArrayView<'_, T, D>,
    ) -> Result<Array<T, D>> {
        let (y, staging) = self.start_forward(&x, Some(&residual))?.wait(first)?;
        self.finish_forward(y, staging, x.raw_dim())
    }

    /// Runs [`forward_add_array`](Self::forward_add_array) without blocking.
    ///
    /// # Errors
    /// As [`forward_add_array`](Self::forward_add_array).
    pub async fn forward_add_array_async<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
        residual: ArrayView<'_, T, D>,
    ) -> Result<Array<T, D>> {
        self.prepare_array(T::DTYPE, x.shape(), true).await?;
        let (y, staging) = self.start_forward(&x, Some(&residual))?.wait_async(first).await?;
        self.finish_forward(y, staging, x.raw_dim())
    }

    /// Returns the gradients with respect to input, weight, bias and the added tensor. `dy` is the gradient with
    /// respect to the output of the last [`forward_array`](Self::forward_array) (or [`forward`](Self::forward)).
    ///
    /// # Errors
    /// As [`backward`](Self::backward); [`Error::Readback`].
    pub fn backward_array<T: Element, D: Dimension>(
        &mut self,
        dy: ArrayView<'_, T, D>,
    ) -> Result<ArrayGradients<D, T>> {
        let shape = dy.raw_dim();
        let (readback, has) = self.start_backward(&dy)?;
        let (gradients, staging) = readback.wait(|parts| has.gradients(parts, shape))?;
        self.arrays.staging = staging;
        gradients
    }

    /// Runs [`backward_array`](Self::backward_array) without blocking.
    ///
    /// # Errors
    /// As [`backward_array`](Self::backward_array).
    pub async fn backward_array_async<T: Element, D: Dimension>(
        &mut self,
        dy: ArrayView<'_, T, D>,
    ) -> Result<ArrayGradients<D, T>> {
        let shape = dy.raw_dim();
        if let Some(saved) = &self.saved {
            let key = saved.key(
                &self.config,
                self.all_gradients(saved.residual.is_some()),
                true,
                GradientWrite::Replace,
            )?;
            self.prepare_async(key).await?;
        }
        let (readback, has) = self.start_backward(&dy)?;
        let (gradients, staging) = readback.wait_async(|parts| has.gradients(parts, shape)).await?;
        self.arrays.staging = staging;
        gradients
    }

    /// Prepares the plan of a forward pass over an array, without blocking.
    async fn prepare_array(&self, dtype: DType, shape: &[usize], residual: bool) -> Result<()> {
        let options = ForwardOptions::new().residual(residual).dtype(dtype);
        self.prepare_async(self.forward_key(shape, self.config.layout, self.mode, options)?).await
    }

    fn start_forward<T: Element, D: Dimension>(
        &mut self,
        x: &ArrayView<'_, T, D>,
        residual: Option<&ArrayView<'_, T, D>>,
    ) -> Result<Readback> {
        let layout = self.config().layout;
        let of_x = (T::DTYPE, x.shape(), layout);
        // Checks x before the upload.
        let options =
            ForwardOptions { residual: residual.is_some(), dtype: T::DTYPE, ..ForwardOptions::default() };
        self.prepare_forward(x.shape(), layout, self.mode, options)?;
        if let Some(residual) = residual
            && residual.shape() != x.shape()
        {
            let (expected, shape) = (x.shape().to_vec(), residual.shape().to_vec());
            return Err(Error::ShapeMismatch {
                name: "residual",
                expected,
                expected_layout: layout,
                shape,
                layout,
            });
        }
        let gpu = self.gpu.clone();
        let (readback, passed) = gpu.scoped(|| {
            let saved = self.saved.as_ref();
            let (replaced_x, replaced_residual) = (saved.map(Saved::x), saved.and_then(Saved::residual));
            let x_on_gpu = self.arrays.x.tensor(&gpu, of_x, &[replaced_x])?;
            let residual_on_gpu = residual
                .map(|_| self.arrays.residual.tensor(&gpu, of_x, &[replaced_residual]))
                .transpose()?;
            let y = self.arrays.y.tensor(&gpu, of_x, &[])?;
            let mut uploads = vec![(x, &x_on_gpu)];
            uploads.extend(residual.zip(residual_on_gpu.as_ref()));
            self.transfer(&uploads, &[y.region()], |layer, encoder| {
                layer.record(encoder, Some(&x_on_gpu), residual_on_gpu.as_ref(), &y)
            })
        })?;
        self.keep_own(passed);
        Ok(readback)
    }

    fn start_backward<T: Element, D: Dimension>(
        &mut self,
        dy: &ArrayView<'_, T, D>,
    ) -> Result<(Readback, Present)> {
        let saved = self.saved.clone().ok_or(Error::NoForward)?;
        let layout = self.config().layout;
        let (weight, bias) = (self.config().weight, self.config().bias);
        let channels = [self.config().num_features];
        let of_dy = (T::DTYPE, dy.shape(), layout);
        let gpu = self.gpu.clone();
        gpu.scoped(|| {
            let on_gpu = self.arrays.y.tensor(&gpu, of_dy, &[])?;
            // Checks dy before the upload.
            self.check_backward(&saved, &on_gpu)?;
            let vector = |wanted: bool, reused: &mut ReusableBuffer| {
                let of_vector = (DType::F32, &channels[..], Layout::ChannelsFirst);
                wanted.then(|| reused.tensor(&gpu, of_vector, &[])).transpose()
            };
            let gradients = Gradients {
                input: Some(on_gpu.clone()),
                weight: vector(weight, &mut self.arrays.dweight)?,
                bias: vector(bias, &mut self.arrays.dbias)?,
                residual: saved
                    .residual()
                    .map(|_| self.arrays.dresidual.tensor(&gpu, of_dy, &[]))
                    .transpose()?,
            };
            let tensors = [&gradients.input, &gradients.weight, &gradients.bias, &gradients.residual];
            let regions: Vec<Region<'_>> = tensors.into_iter().flatten().map(Tensor::region).collect();
            let (readback, ()) = self.transfer(&[(dy, &on_gpu)], &regions, |layer, encoder| {
                layer.record_gradients(encoder, &saved, &on_gpu, &gradients, GradientWrite::Replace)
            })?;
            Ok((readback, Present { weight, bias, residual: saved.residual().is_some() }))
        })
    }

    /// Uploads arrays to tensors, runs the commands that `record` records, and starts the readback of the regions.
    fn transfer<T: Element, D: Dimension, R>(
        &mut self,
        uploads: &[(&ArrayView<'_, T, D>, &Tensor)],
        regions: &[Region<'_>],
        record: impl FnOnce(&mut Self, &mut wgpu::CommandEncoder) -> Result<R>,
    ) -> Result<(Readback, R)> {
        let gpu = self.gpu.clone();
        let contiguous: Vec<_> = uploads.iter().map(|(array, _)| array.as_standard_layout()).collect();
        let contents = contiguous.iter().map(|array| {
            let values = array.as_slice().unwrap_or_else(|| unreachable!("standard layout is contiguous"));
            bytemuck::cast_slice(values)
        });
        let contents: Vec<&[u8]> = contents.collect();
        let readback = self.arrays.staging.take_readback(&gpu, regions)?;
        let upload = self.arrays.staging.take_upload(&gpu, &contents)?;
        let mut encoder = gpu.encoder();
        for (index, (_, tensor)) in uploads.iter().enumerate() {
            // Tensors that the layer allocates begin on a word, and share their last word with nothing.
            upload.copy(&mut encoder, index, tensor.region());
        }
        let recorded = record(self, &mut encoder)?;
        Ok((Readback::submit(&gpu, encoder, regions, readback, Some(upload)), recorded))
    }

    fn finish_forward<T: Element, D: Dimension>(
        &mut self,
        y: Vec<T>,
        staging: Staging,
        dimension: D,
    ) -> Result<Array<T, D>> {
        self.arrays.staging = staging;
        in_dimension(y, dimension)
    }
}

/// Gradients that are read back after dx, in the order of their regions.
struct Present {
    weight: bool,
    bias: bool,
    residual: bool,
}

impl Present {
    fn gradients<T: Element, D: Dimension>(&self, parts: &[&[u8]], shape: D) -> Result<ArrayGradients<D, T>> {
        let (dx, mut rest) = parts.split_first().unwrap_or_else(|| unreachable!("dx was asked for"));
        let mut next = |present: bool| present.then(|| rest.split_off_first().copied().unwrap_or_default());
        let [weight, bias] = [self.weight, self.bias].map(&mut next);
        let residual = next(self.residual);
        let vector = |bytes: &[u8]| Array1::from_vec(transfer::values(bytes));
        Ok(ArrayGradients {
            input: in_dimension(transfer::values(dx), shape.clone())?,
            weight: weight.map(vector),
            bias: bias.map(vector),
            residual: residual.map(|bytes| in_dimension(transfer::values(bytes), shape)).transpose()?,
        })
    }
}

/// Returns the values of the only region.
fn first<T: Element>(parts: &[&[u8]]) -> Vec<T> {
    parts.first().map(|part| transfer::values(part)).unwrap_or_default()
}

pub(crate) fn in_dimension<T, D: Dimension>(values: Vec<T>, dimension: D) -> Result<Array<T, D>> {
    Array::from_shape_vec(dimension, values).map_err(|error| Error::Readback { reason: error.to_string() })
}
