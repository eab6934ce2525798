//! The GPU as an implementation to check.

use super::{Case, GradientScales, Implementation, Inputs, Outputs, Step, StepGradients};
use crate::{ArrayGradients, BatchNorm, Gpu, Result};
use ndarray::{ArrayD, IxDyn};

/// The layer on this GPU, [`BatchNorm`], by way of `ndarray` in and out.
impl Implementation for Gpu {
    fn name(&self) -> String {
        self.profile().to_string()
    }

    fn run(&self, case: &Case, inputs: &Inputs) -> Result<Outputs> {
        let mut layer = BatchNorm::with_state(self, case.config.clone(), &inputs.state)?;
        if !case.training {
            layer.eval();
        }
        let mut steps = Vec::new();
        for (k, x) in inputs.xs.iter().enumerate() {
            let y = layer.forward_array(x.view())?;
            let gradients = inputs.dys.get(k).map(|dy| layer.backward_array(dy.view())).transpose()?;
            steps.push(Step::from_layer(&layer, &y, gradients.as_ref())?);
        }
        Ok(Outputs { steps })
    }
}

impl Step {
    /// What the layer's last passes left, beside their results.
    ///
    /// # Errors
    /// [`Error::Readback`](crate::Error::Readback).
    pub fn from_layer(
        layer: &BatchNorm,
        y: &ArrayD<f32>,
        gradients: Option<&ArrayGradients<IxDyn>>,
    ) -> Result<Self> {
        let statistics = layer.batch_statistics()?;
        let state = layer.state()?;
        Ok(Self {
            y: y.mapv(f64::from),
            batch_mean: statistics
                .as_ref()
                .map(|batch| batch.mean.mapv(f64::from) + batch.mean_remainder.mapv(f64::from)),
            batch_var: statistics.as_ref().map(|batch| batch.var.mapv(f64::from)),
            running_mean: state.running_mean.map(|mean| mean.mapv(f64::from)),
            running_var: state.running_var.map(|var| var.mapv(f64::from)),
            num_batches_tracked: state.num_batches_tracked,
            gradients: gradients.map(|gradients| StepGradients {
                dx: gradients.input.mapv(f64::from),
                dweight: gradients.weight.as_ref().map(|weight| weight.mapv(f64::from)),
                dbias: gradients.bias.as_ref().map(|bias| bias.mapv(f64::from)),
                scales: GradientScales::default(),
            }),
        })
    }
}
