//! Runs a case of one large channel on the GPU.

use super::pieces::{ChannelValues, pieces};
use super::{Case, Step};
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::layer::{ArrayGradients, BatchNorm, GradientWrite, Gradients, Saved};
use crate::layout::Layout;
use crate::state::BatchNormState;
use crate::tensor::Tensor;
use ndarray::{ArrayD, IxDyn};

/// Runs a case of one channel with little memory beside the device's: one tensor at a time is in this machine's, in its
/// own type. `shapes` has the shape of each step, and `put` takes the results `y`, `dx` and `dresidual` of a step as a
/// file stores them. Returns the other results; the tensors in them are empty.
///
/// # Errors
/// As [`Implementation::run`](super::Implementation::run).
pub fn run_channel<T: Element>(
    gpu: &Gpu,
    case: &Case,
    state: &BatchNormState,
    shapes: &[Vec<usize>],
    values: &impl ChannelValues,
    mut put: impl FnMut(usize, &'static str, Vec<u8>),
) -> Result<Vec<Step>> {
    let mut layer = BatchNorm::with_state(gpu, case.config.clone(), state)?;
    if !case.training {
        layer.eval();
    }
    let mut steps = Vec::new();
    for (k, shape) in shapes.iter().enumerate() {
        let ranges = || pieces(values.len(k), PIECE);
        let upload = |parts: &mut dyn Iterator<Item = Vec<f32>>| {
            upload::<T>(gpu, shape, parts).map(|tensor| tensor.with_layout(case.config.layout))
        };
        let x = upload(&mut ranges().map(|range| values.x(k, range)))?;
        let (y, saved) = if values.residual(k, 0..0).is_some() {
            let residual = upload(&mut ranges().filter_map(|range| values.residual(k, range)))?;
            layer.forward_add_saved(&x, &residual)?
        } else {
            layer.forward_saved(&x)?
        };
        put(k, "y", y.to_bytes()?);
        drop(y);
        let gradients = if values.dy(k, 0..0).is_some() {
            let dy = upload(&mut ranges().filter_map(|range| values.dy(k, range)))?;
            Some(gradients::<T>(&mut layer, &saved, &dy, |name, data| put(k, name, data))?)
        } else {
            None
        };
        steps.push(Step::from_layer(&layer, &empty::<T>(), gradients.as_ref())?);
    }
    Ok(steps)
}

/// Elements that are read at once.
const PIECE: usize = 1 << 14;

/// Uploads a tensor that comes in parts.
fn upload<T: Element>(
    gpu: &Gpu,
    shape: &[usize],
    parts: &mut dyn Iterator<Item = Vec<f32>>,
) -> Result<Tensor> {
    let mut values = Vec::with_capacity(shape.iter().product());
    parts.for_each(|part| values.extend(part.into_iter().map(T::from_f32)));
    let array = ArrayD::from_shape_vec(IxDyn(shape), values)
        .map_err(|error| Error::Readback { reason: error.to_string() })?;
    let tensor = Tensor::from_array(gpu, array.view())?;
    drop(array);
    // Frees what the upload went through, which may be memory of this machine.
    gpu.wait(None)?;
    Ok(tensor)
}

/// Runs a backward pass. dx takes the place of dy. Returns the gradients; dx and dresidual in them are empty.
fn gradients<T: Element>(
    layer: &mut BatchNorm,
    saved: &Saved,
    dy: &Tensor,
    mut put: impl FnMut(&'static str, Vec<u8>),
) -> Result<ArrayGradients<IxDyn, T>> {
    let gpu = layer.gpu().clone();
    let vector = |wanted: bool| wanted.then(|| Tensor::zeros(&gpu, &[1], Layout::ChannelsFirst)).transpose();
    let dresidual =
        saved.residual().map(|_| Tensor::zeros_of(&gpu, dy.dtype(), dy.shape(), dy.layout())).transpose()?;
    let gradients = Gradients::new()
        .input(dy.clone())
        .weight(vector(layer.config().weight)?)
        .bias(vector(layer.config().bias)?)
        .residual(dresidual.clone());
    layer.backward_into(saved, dy, &gradients, GradientWrite::Replace)?;
    put("dx", dy.to_bytes()?);
    if let Some(dresidual) = &dresidual {
        put("dresidual", dresidual.to_bytes()?);
    }
    let vector = |tensor: &Option<Tensor>| {
        let values = tensor.as_ref().map(Tensor::to_array).transpose()?;
        Ok::<_, Error>(values.map(|values| values.iter().copied().collect()))
    };
    Ok(ArrayGradients {
        input: empty(),
        weight: vector(&gradients.weight)?,
        bias: vector(&gradients.bias)?,
        residual: dresidual.map(|_| empty()),
    })
}

fn empty<T: Element>() -> ArrayD<T> {
    ArrayD::from_elem(IxDyn(&[0, 1]), T::from_f32(0.0))
}

#[cfg(test)]
mod tests {
    use super::run_channel;
    use crate::activation::Activation;
    use crate::dtype::{DType, Element};
    use crate::error::Result;
    use crate::gpu::Gpu;
    use crate::verify::{Case, Implementation, Outputs, Step};
    use half::{bf16, f16};
    use ndarray::{ArrayD, IxDyn};
    use std::collections::BTreeMap;

    /// Computes a case as a channel, and puts its tensors into the steps.
    fn steps<T: Element>(gpu: &Gpu, case: &Case) -> Result<Outputs> {
        let inputs = case.inputs();
        let shapes: Vec<Vec<usize>> = inputs.xs.iter().map(|x| x.shape().to_vec()).collect();
        let mut tensors = BTreeMap::new();
        let put = |step: usize, name, data: Vec<u8>| drop(tensors.insert((step, name), data));
        let mut steps = run_channel::<T>(gpu, case, &inputs.state, &shapes, &inputs, put)?;
        let mut array = |step: usize, name| {
            let values: Vec<T> =
                bytemuck::pod_collect_to_vec(&tensors.remove(&(step, name)).expect("the tensor was put"));
            let values = values.into_iter().map(Into::<f64>::into).collect();
            ArrayD::from_shape_vec(IxDyn(&shapes[step]), values).expect("all values are there")
        };
        for (k, step) in steps.iter_mut().enumerate() {
            let Step { y, gradients, .. } = step;
            *y = array(k, "y");
            if let Some(gradients) = gradients {
                gradients.dx = array(k, "dx");
                gradients.dresidual = gradients.dresidual.is_some().then(|| array(k, "dresidual"));
            }
        }
        assert!(tensors.is_empty());
        Ok(Outputs { steps })
    }

    #[test]
    fn a_channel_is_a_case() -> Result<()> {
        let gpu = Gpu::new()?;
        let relu = |case: Case| case.with(|config| config.activation(Activation::Relu));
        for case in [
            Case::new("rows, two steps", &[3, 1, 1023]).steps(2),
            Case::new("rows, eval", &[3, 1, 7, 9]).eval(),
            relu(Case::new("rows of a sum", &[2, 1, 513])).add(),
            relu(Case::last("column of a sum", &[31, 33, 1])).add(),
            Case::new("no affine", &[1, 1, 100]).with(|config| config.affine(false)),
        ] {
            for dtype in DType::ALL {
                let case = case.clone().dtype(dtype);
                let found = match dtype {
                    DType::F32 => steps::<f32>(&gpu, &case)?,
                    DType::F16 => steps::<f16>(&gpu, &case)?,
                    DType::BF16 => steps::<bf16>(&gpu, &case)?,
                };
                assert_eq!(found, gpu.run(&case, &case.inputs())?, "{}, {dtype}", case.name);
            }
        }
        Ok(())
    }
}
