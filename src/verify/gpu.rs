//! The GPU as an implementation to check.

use super::{Case, Implementation, Inputs, Outputs, Step};
use crate::{BatchNorm, Gpu, Result};

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
        for x in &inputs.xs {
            let y = layer.forward_array(x.view())?;
            steps.push(Step::from_layer(&layer, &y)?);
        }
        Ok(Outputs { steps })
    }
}

impl Step {
    /// What the layer's last forward pass left, beside its output.
    ///
    /// # Errors
    /// [`Error::Readback`](crate::Error::Readback).
    pub fn from_layer(layer: &BatchNorm, y: &ndarray::ArrayD<f32>) -> Result<Self> {
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
        })
    }
}
