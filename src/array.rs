//! The layer on arrays: `ndarray` in, `ndarray` out, blocking and async.
//!
//! A call uploads, computes and reads back in one submission. The buffers that it goes through are the last
//! call's, where they are large enough.

use crate::memory::Reused;
use crate::transfer::{Read, Readback, Region, Staging};
use crate::{BatchNorm, Error, Gradients, Layout, Result, Saved, Tensor};
use ndarray::{Array, Array1, ArrayView, Dimension};

/// [`Gradients`] as arrays.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrayGradients<D: Dimension> {
    /// dx, of the shape of x.
    pub input: Array<f32, D>,
    /// dweight, `[C]`. `None` without affine.
    pub weight: Option<Array1<f32>>,
    /// dbias, `[C]`. `None` without affine.
    pub bias: Option<Array1<f32>>,
}

/// What the array passes of a layer keep from call to call.
#[derive(Debug, Default)]
pub(crate) struct ArrayBuffers {
    staging: Staging,
    x: Reused,
    /// For y, and later for dy, which dx overwrites.
    y: Reused,
    dweight: Reused,
    dbias: Reused,
}

impl BatchNorm {
    /// Uploads, normalises and reads back, in the layout of
    /// [`BatchNormConfig::layout`](crate::BatchNormConfig::layout). The uploaded x stays on the GPU for
    /// [`backward_array`](Self::backward_array), until the next call or [`forget`](Self::forget).
    ///
    /// The memory that this takes on the GPU and for the transfers is kept for the next call, until
    /// [`release_buffers`](Self::release_buffers).
    ///
    /// # Errors
    /// As [`forward`](Self::forward); [`Error::Readback`].
    pub fn forward_array<D: Dimension>(&mut self, x: ArrayView<'_, f32, D>) -> Result<Array<f32, D>> {
        let read = self.start_forward(&x)?.wait()?;
        self.finish_forward(read, x.raw_dim())
    }

    /// [`forward_array`](Self::forward_array) without blocking: the future is ready when the result has
    /// been read back. It needs no particular executor. Once polled, the pass takes place even if the future is
    /// dropped; its result is lost then.
    ///
    /// # Errors
    /// As [`forward_array`](Self::forward_array).
    pub async fn forward_array_async<D: Dimension>(
        &mut self,
        x: ArrayView<'_, f32, D>,
    ) -> Result<Array<f32, D>> {
        let read = self.start_forward(&x)?.wait_async().await?;
        self.finish_forward(read, x.raw_dim())
    }

    /// The gradients with respect to input, weight and bias, given the gradient with respect to the output
    /// of the last [`forward_array`](Self::forward_array) (or [`forward`](Self::forward)).
    ///
    /// # Errors
    /// As [`backward`](Self::backward); [`Error::Readback`].
    pub fn backward_array<D: Dimension>(&mut self, dy: ArrayView<'_, f32, D>) -> Result<ArrayGradients<D>> {
        let read = self.start_backward(&dy)?.wait()?;
        self.finish_backward(read, dy.raw_dim())
    }

    /// [`backward_array`](Self::backward_array) without blocking.
    ///
    /// # Errors
    /// As [`backward_array`](Self::backward_array).
    pub async fn backward_array_async<D: Dimension>(
        &mut self,
        dy: ArrayView<'_, f32, D>,
    ) -> Result<ArrayGradients<D>> {
        let read = self.start_backward(&dy)?.wait_async().await?;
        self.finish_backward(read, dy.raw_dim())
    }

    fn start_forward<D: Dimension>(&mut self, x: &ArrayView<'_, f32, D>) -> Result<Readback> {
        let layout = self.config().layout;
        // Before an x that does not fit is uploaded.
        self.prepare_forward(x.shape(), layout, false)?;
        let gpu = self.gpu.clone();
        gpu.validated(|| {
            let replaced = self.saved.as_ref().map(Saved::x);
            let on_gpu = self.arrays.x.tensor(&gpu, x.shape(), layout, &[replaced])?;
            let y = self.arrays.y.tensor(&gpu, x.shape(), layout, &[])?;
            self.transfer(x, &on_gpu, &[y.region()], |layer, encoder| {
                layer.record(encoder, Some(&on_gpu), &y)
            })
        })
    }

    fn start_backward<D: Dimension>(&mut self, dy: &ArrayView<'_, f32, D>) -> Result<Readback> {
        let saved = self.saved.clone().ok_or(Error::NoForward)?;
        let layout = self.config().layout;
        let (affine, channels) = (self.config().affine, [self.config().num_features]);
        let gpu = self.gpu.clone();
        gpu.validated(|| {
            let on_gpu = self.arrays.y.tensor(&gpu, dy.shape(), layout, &[])?;
            // Before a dy that does not fit is uploaded.
            self.check_backward(&saved, &on_gpu)?;
            let vector = |reused: &mut Reused| {
                affine.then(|| reused.tensor(&gpu, &channels, Layout::ChannelsFirst, &[])).transpose()
            };
            let gradients = Gradients {
                input: Some(on_gpu.clone()),
                weight: vector(&mut self.arrays.dweight)?,
                bias: vector(&mut self.arrays.dbias)?,
            };
            let tensors = [&gradients.input, &gradients.weight, &gradients.bias];
            let regions: Vec<Region<'_>> = tensors.into_iter().flatten().map(Tensor::region).collect();
            self.transfer(dy, &on_gpu, &regions, |layer, encoder| {
                layer.record_gradients(encoder, &saved, &on_gpu, &gradients, false)
            })
        })
    }

    /// Uploads `from` to `to`, does what is recorded, and begins to read the regions back.
    fn transfer<D: Dimension>(
        &mut self,
        from: &ArrayView<'_, f32, D>,
        to: &Tensor,
        regions: &[Region<'_>],
        record: impl FnOnce(&mut Self, &mut wgpu::CommandEncoder) -> Result<()>,
    ) -> Result<Readback> {
        let gpu = self.gpu.clone();
        let contiguous = from.as_standard_layout();
        let values = contiguous.as_slice().unwrap_or_else(|| unreachable!("standard layout is contiguous"));
        let readback = self.arrays.staging.take_readback(&gpu, regions)?;
        let upload = self.arrays.staging.take_upload(&gpu, bytemuck::cast_slice(values))?;
        let mut encoder = gpu.encoder();
        let (buffer, offset, bytes) = to.region();
        if bytes > 0 {
            encoder.copy_buffer_to_buffer(&upload, 0, buffer, offset, bytes);
        }
        record(self, &mut encoder)?;
        Ok(Readback::submit(&gpu, encoder, regions, readback, Some(upload)))
    }

    fn finish_forward<D: Dimension>(&mut self, read: Read, dimension: D) -> Result<Array<f32, D>> {
        self.arrays.staging = read.staging;
        in_dimension(read.parts.into_iter().next(), dimension)
    }

    fn finish_backward<D: Dimension>(&mut self, read: Read, dimension: D) -> Result<ArrayGradients<D>> {
        self.arrays.staging = read.staging;
        let mut parts = read.parts.into_iter();
        Ok(ArrayGradients {
            input: in_dimension(parts.next(), dimension)?,
            weight: parts.next().map(Array1::from_vec),
            bias: parts.next().map(Array1::from_vec),
        })
    }
}

fn in_dimension<D: Dimension>(values: Option<Vec<f32>>, dimension: D) -> Result<Array<f32, D>> {
    Array::from_shape_vec(dimension, values.unwrap_or_default())
        .map_err(|error| Error::Readback { reason: error.to_string() })
}
