//! The layer on arrays: `ndarray` in, `ndarray` out, blocking and async.

use crate::transfer::{Readback, Region};
use crate::{BatchNorm, Gradients, Result, Tensor};
use ndarray::{Array, Array1, ArrayD, ArrayView, Dimension};

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

impl BatchNorm {
    /// Uploads, normalises and reads back, in the layout of
    /// [`BatchNormConfig::layout`](crate::BatchNormConfig::layout). The uploaded x stays on the GPU for
    /// [`backward_array`](Self::backward_array), until the next call or [`forget`](Self::forget).
    ///
    /// # Errors
    /// As [`forward`](Self::forward); [`Error::Readback`](crate::Error::Readback).
    pub fn forward_array<D: Dimension>(&mut self, x: ArrayView<'_, f32, D>) -> Result<Array<f32, D>> {
        let y = self.forward_uploaded(&x)?.to_array()?;
        in_dimension(y, x.raw_dim())
    }

    /// [`forward_array`](Self::forward_array) without blocking: the future is ready when the result has
    /// been read back. It needs no particular executor.
    ///
    /// # Errors
    /// As [`forward_array`](Self::forward_array).
    pub async fn forward_array_async<D: Dimension>(
        &mut self,
        x: ArrayView<'_, f32, D>,
    ) -> Result<Array<f32, D>> {
        let y = self.forward_uploaded(&x)?.to_array_async().await?;
        in_dimension(y, x.raw_dim())
    }

    /// The gradients with respect to input, weight and bias, given the gradient with respect to the output
    /// of the last [`forward_array`](Self::forward_array) (or [`forward`](Self::forward)).
    ///
    /// # Errors
    /// As [`backward`](Self::backward); [`Error::Readback`](crate::Error::Readback).
    pub fn backward_array<D: Dimension>(&mut self, dy: ArrayView<'_, f32, D>) -> Result<ArrayGradients<D>> {
        let gradients = self.backward_uploaded(&dy)?;
        let parts = Readback::start(self.gpu(), &regions(&gradients))?.wait()?;
        arrays(&gradients, &parts, dy.raw_dim())
    }

    /// [`backward_array`](Self::backward_array) without blocking.
    ///
    /// # Errors
    /// As [`backward_array`](Self::backward_array).
    pub async fn backward_array_async<D: Dimension>(
        &mut self,
        dy: ArrayView<'_, f32, D>,
    ) -> Result<ArrayGradients<D>> {
        let gradients = self.backward_uploaded(&dy)?;
        let parts = Readback::start(self.gpu(), &regions(&gradients))?.wait_async().await?;
        arrays(&gradients, &parts, dy.raw_dim())
    }

    fn forward_uploaded<D: Dimension>(&mut self, x: &ArrayView<'_, f32, D>) -> Result<Tensor> {
        let layout = self.config().layout;
        // Before an x that does not fit is uploaded.
        self.config().problem(x.shape(), layout, self.is_training())?;
        let x = Tensor::from_array(self.gpu(), x.view())?.with_layout(layout);
        self.forward(&x)
    }

    fn backward_uploaded<D: Dimension>(&mut self, dy: &ArrayView<'_, f32, D>) -> Result<Gradients> {
        let saved = self.saved().cloned().ok_or(crate::Error::NoForward)?;
        let dy = Tensor::from_array(self.gpu(), dy.view())?.with_layout(self.config().layout);
        // dx takes the place of dy, which nobody else has.
        let vector = |parameter: Option<&Tensor>| {
            parameter.map(|like| Tensor::zeros(self.gpu(), like.shape(), like.layout())).transpose()
        };
        let gradients =
            Gradients { input: Some(dy.clone()), weight: vector(self.weight())?, bias: vector(self.bias())? };
        self.backward_into(&saved, &dy, &gradients, false)?;
        Ok(gradients)
    }
}

fn regions(gradients: &Gradients) -> Vec<Region<'_>> {
    let tensors = [&gradients.input, &gradients.weight, &gradients.bias];
    tensors.into_iter().flatten().map(Tensor::region).collect()
}

fn arrays<D: Dimension>(gradients: &Gradients, parts: &[Vec<u8>], dimension: D) -> Result<ArrayGradients<D>> {
    let tensors = [&gradients.input, &gradients.weight, &gradients.bias];
    let mut parts = parts.iter();
    let [input, weight, bias] = tensors.map(|tensor| {
        let tensor = tensor.as_ref()?;
        parts.next().map(|part| tensor.array_of(part))
    });
    let vector = |array: Option<Result<ArrayD<f32>>>| {
        array.transpose().map(|array| array.map(|array| array.into_iter().collect::<Array1<f32>>()))
    };
    let input = input.unwrap_or_else(|| Ok(ArrayD::zeros(dimension.as_array_view().to_vec())))?;
    Ok(ArrayGradients {
        input: in_dimension(input, dimension)?,
        weight: vector(weight)?,
        bias: vector(bias)?,
    })
}

/// Gives an array of dynamic rank the rank it had before.
fn in_dimension<D: Dimension>(array: ArrayD<f32>, dimension: D) -> Result<Array<f32, D>> {
    array
        .into_shape_with_order(dimension)
        .map_err(|error| crate::Error::Readback { reason: error.to_string() })
}
