//! Runs cases on the GPU.

use super::{Case, GradientScales, Implementation, Inputs, Outputs, Step, StepGradients};
use crate::dtype::{DType, Element};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::layer::ArrayGradients;
use crate::layer::BatchNorm;
use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};

/// Runs the layer, [`BatchNorm`], on this GPU with `ndarray` inputs and outputs.
impl Implementation for Gpu {
    fn name(&self) -> String {
        self.profile().to_string()
    }

    fn run(&self, case: &Case, inputs: &Inputs) -> Result<Outputs> {
        let mut layer = BatchNorm::with_state(self, case.config.clone(), &inputs.state)?;
        if !case.training {
            layer.eval();
        }
        match case.dtype {
            DType::F32 => run::<f32>(&mut layer, inputs),
            DType::F16 => run::<f16>(&mut layer, inputs),
            DType::BF16 => run::<bf16>(&mut layer, inputs),
        }
    }
}

/// Runs all steps with tensors of one element type.
fn run<T: Element>(layer: &mut BatchNorm, inputs: &Inputs) -> Result<Outputs> {
    let typed = |array: &ArrayD<f32>| array.mapv(T::from_f32);
    let mut steps = Vec::new();
    for (k, x) in inputs.xs.iter().enumerate() {
        let y = match inputs.residuals.get(k) {
            Some(residual) => layer.forward_add_array(typed(x).view(), typed(residual).view())?,
            None => layer.forward_array(typed(x).view())?,
        };
        let dy = inputs.dys.get(k).map(typed);
        let gradients = dy.map(|dy| layer.backward_array(dy.view())).transpose()?;
        steps.push(Step::from_layer(layer, &y, gradients.as_ref())?);
    }
    Ok(Outputs { steps })
}

impl Step {
    /// Collects the results of the layer's last passes, and the state after them.
    ///
    /// # Errors
    /// Returns [`Error::Readback`](crate::Error::Readback).
    pub fn from_layer<T: Element>(
        layer: &BatchNorm,
        y: &ArrayD<T>,
        gradients: Option<&ArrayGradients<IxDyn, T>>,
    ) -> Result<Self> {
        let exact = |array: &ArrayD<T>| array.mapv(Into::<f64>::into);
        let statistics = layer.batch_statistics()?;
        let state = layer.state()?;
        Ok(Self {
            y: exact(y),
            batch_mean: statistics
                .as_ref()
                .map(|batch| batch.mean.mapv(f64::from) + batch.mean_remainder.mapv(f64::from)),
            batch_var: statistics.as_ref().map(|batch| batch.var.mapv(f64::from)),
            running_mean: state.running_mean.map(|mean| mean.mapv(f64::from)),
            running_var: state.running_var.map(|var| var.mapv(f64::from)),
            num_batches_tracked: state.num_batches_tracked,
            gradients: gradients.map(|gradients| StepGradients {
                dx: exact(&gradients.input),
                dresidual: gradients.residual.as_ref().map(exact),
                dweight: gradients.weight.as_ref().map(|weight| weight.mapv(f64::from)),
                dbias: gradients.bias.as_ref().map(|bias| bias.mapv(f64::from)),
                scales: GradientScales::default(),
            }),
        })
    }
}
