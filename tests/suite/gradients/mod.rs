//! The backward pass on the GPU: accuracy of long sums, masks, memory, accumulation, the functional form,
//! the order of calls, and what must hold of any gradient.

mod accuracy;
mod calls;
mod invariances;
mod memory;
mod outputs;

use crate::support::{self, buffer, gpu, gpu_without_subgroups, poisoned, runner};
use ndarray::{Array1, ArrayD, Axis, IxDyn};
use proptest::prelude::*;
use wgpu_batchnorm::kernels::{Binding, VectorWidth};
use wgpu_batchnorm::reference;
use wgpu_batchnorm::verify::{Case, Inputs, TOLERANCE, compare, compare_scaled, largest};
use wgpu_batchnorm::{
    AdapterProfile, BackwardOptions, BatchNorm, BatchNormConfig, BatchNormState, DType, Error, Gpu,
    GradientMask, Gradients, Layout, Plan, PlanInput, Saved, Tensor, wgpu,
};

use Layout::{ChannelsFirst, ChannelsLast};

/// Returns a case of standard normal data in training.
pub(crate) fn case(shape: &[usize], layout: Layout, seed: u64) -> Case {
    Case {
        name: format!("{layout} {shape:?}"),
        shape: shape.to_vec(),
        config: BatchNormConfig::new(shape[layout.channel_axis(shape.len())]).layout(layout),
        training: true,
        steps: 1,
        mean: 0.0,
        std: 1.0,
        poison: None,
        dtype: DType::F32,
        residual: false,
        seed,
    }
}

/// Returns a few small cases in both layouts and modes, with and without weight and bias.
fn small_cases() -> Vec<Case> {
    let shapes: [(&[usize], Layout); 4] = [
        (&[4, 3, 5, 7], ChannelsFirst),
        (&[70, 9], ChannelsFirst),
        (&[3, 6, 7, 5], ChannelsLast),
        (&[2, 3, 200, 31], ChannelsFirst),
    ];
    let mut cases = Vec::new();
    for (seed, (shape, layout)) in (50..).zip(shapes) {
        for (training, weight, bias, track) in [
            (true, true, true, true),
            (false, true, true, true),
            (true, false, false, true),
            (false, false, false, true),
            (false, true, true, false),
            (true, true, false, true),
            (false, false, true, true),
        ] {
            let mut case = case(shape, layout, seed);
            case.training = training;
            case.config = case.config.weight(weight).bias(bias).track_running_stats(track);
            let options = format!("training {training}, weight {weight}, bias {bias}, tracking {track}");
            case.name = format!("{}, {options}", case.name);
            cases.push(case);
        }
    }
    cases
}

/// Returns the layer of a case, with its state and in its mode.
fn layer(gpu: &Gpu, case: &Case, state: &BatchNormState) -> BatchNorm {
    let mut bn = BatchNorm::with_state(gpu, case.config.clone(), state).unwrap();
    if !case.training {
        bn.eval();
    }
    bn
}

/// Returns the layer of a case, and x and dy as tensors.
fn on_gpu(gpu: &Gpu, case: &Case) -> (BatchNorm, Tensor, Tensor) {
    let inputs = case.inputs();
    let upload = |array: &ArrayD<f32>| tensor(gpu, array, case.config.layout);
    (layer(gpu, case, &inputs.state), upload(&inputs.xs[0]), upload(&inputs.dys[0]))
}

fn tensor(gpu: &Gpu, array: &ArrayD<f32>, layout: Layout) -> Tensor {
    Tensor::from_array(gpu, array.view()).unwrap().with_layout(layout)
}

/// Returns an unwritten tensor. It holds NaN, which no result may be.
fn unwritten(gpu: &Gpu, shape: &[usize], layout: Layout) -> Tensor {
    let elements = shape.iter().product();
    Tensor::from_buffer(gpu, &poisoned(gpu, elements), 0, shape, layout).unwrap()
}

/// Returns unwritten tensors for the gradients.
fn unwritten_gradients(case: &Case, gpu: &Gpu) -> Gradients {
    let vector = || Some(unwritten(gpu, &[case.config.num_features], ChannelsFirst));
    Gradients::new()
        .input(unwritten(gpu, &case.shape, case.config.layout))
        .weight(vector().filter(|_| case.config.weight))
        .bias(vector().filter(|_| case.config.bias))
}

type Bits = Option<Vec<u32>>;

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.to_array().unwrap().iter().map(|value| value.to_bits()).collect()
}

/// Returns the bits of dx, dweight and dbias.
fn all_bits(gradients: &Gradients) -> [Bits; 3] {
    [&gradients.input, &gradients.weight, &gradients.bias].map(|tensor| tensor.as_ref().map(bits))
}

fn values(tensor: Option<&Tensor>) -> Vec<f32> {
    tensor.unwrap().to_array().unwrap().into_raw_vec_and_offset().0
}

/// Returns the layer of a case on the CPU, after its forward pass.
fn exact_layer(case: &Case, state: &BatchNormState, x: &ArrayD<f32>) -> reference::BatchNorm {
    let mut layer = reference::BatchNorm::with_state(case.config.clone(), state).unwrap();
    if !case.training {
        layer.eval();
    }
    layer.forward(x.mapv(f64::from).view()).unwrap();
    layer
}

/// Checks the gradients against the reference, by the measure of `verify`.
fn assert_right(
    case: &Case,
    gradients: &Gradients,
    state: &BatchNormState,
    x: &ArrayD<f32>,
    dy: &ArrayD<f32>,
) {
    let layer = exact_layer(case, state, x);
    let dy = dy.mapv(f64::from);
    let exact = layer.backward(dy.view()).unwrap();
    let scale_of_dx = largest(dy.view())
        * largest(layer.inv_std().unwrap().view())
        * layer.weight().map_or(1.0, |weight| largest(weight.view()));
    let dx = gradients.input.as_ref().unwrap().to_array().unwrap();
    compare_scaled("dx", dx.view(), exact.dx.view(), scale_of_dx, TOLERANCE).unwrap();
    let scale_of_sums = dy.mapv(f64::abs).sum() * largest(layer.x_hat().unwrap().view()).max(1.0);
    for (tensor, exact) in [(&gradients.weight, exact.dweight), (&gradients.bias, exact.dbias)] {
        let Some(exact) = exact else { continue };
        let vector = Array1::from_vec(values(tensor.as_ref()));
        compare_scaled("sums", vector.view(), exact.view(), scale_of_sums, TOLERANCE).unwrap();
    }
}

fn backward_plan(case: &Case, mask: GradientMask, profile: &AdapterProfile) -> Plan {
    let problem = case.config.problem(&case.shape, case.config.layout, case.training.into()).unwrap();
    let options = BackwardOptions::new().mask(mask);
    Plan::backward(&PlanInput::new(&problem, &case.config, case.training.into(), profile), &options).unwrap()
}
