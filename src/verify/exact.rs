//! The exact results of a case, and the scales of its gradients.

use super::{Case, GradientScales, Implementation, Inputs, Outputs, Step, StepGradients, TOLERANCE, largest};
use crate::reference::{self, BatchNorm, within_f32};
use ndarray::{ArrayD, Axis, Zip};

/// The CPU reference, [`reference::BatchNorm`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl Implementation for Reference {
    fn name(&self) -> String {
        "reference".to_owned()
    }

    fn run(&self, case: &Case, inputs: &Inputs) -> crate::error::Result<Outputs> {
        let mut layer = BatchNorm::with_state(case.config.clone(), &inputs.state)?;
        if !case.training {
            layer.eval();
        }
        let mut steps = Vec::new();
        for (k, x) in inputs.xs.iter().enumerate() {
            let x = x.mapv(f64::from);
            let y = match inputs.zs.get(k) {
                Some(z) => layer.forward_add(x.view(), z.mapv(f64::from).view())?,
                None => layer.forward(x.view())?,
            };
            let gradients = inputs.dys.get(k).map(|dy| gradients(&layer, &dy.mapv(f64::from))).transpose()?;
            steps.push(Step {
                y,
                batch_mean: layer.batch_mean().cloned(),
                batch_var: layer.batch_var().cloned(),
                running_mean: layer.running_mean().cloned(),
                running_var: layer.running_var().cloned(),
                num_batches_tracked: layer.num_batches_tracked(),
                gradients,
            });
        }
        Ok(Outputs { steps })
    }
}

/// Returns the gradients after the layer's last forward pass, with their scales.
fn gradients(layer: &BatchNorm, dy: &ArrayD<f64>) -> crate::error::Result<StepGradients> {
    let gradients = layer.backward(dy.view())?;
    let scales = gradient_scales(layer, dy);
    let reference::Gradients { dx, dweight, dbias, dz } = gradients;
    Ok(StepGradients { dx, dweight, dbias, dz, scales })
}

fn gradient_scales(layer: &BatchNorm, dy: &ArrayD<f64>) -> GradientScales {
    let mut scales = GradientScales::default();
    let (Some(x_hat), Some(inv_std)) = (layer.x_hat(), layer.inv_std()) else { return scales };
    let Some(activated) = layer.before_activation() else { return scales };
    let activation = layer.config().activation;
    let upstream = dy;
    let mut dy = dy.clone();
    Zip::from(&mut dy).and(activated).for_each(|dy, &u| *dy = activation.backward(*dy, within_f32(u)));
    scales.dz = largest(dy.view());
    let axis = Axis(layer.config().layout.channel_axis(dy.ndim()));
    for (c, (dy, x_hat)) in dy.axis_iter(axis).zip(x_hat.axis_iter(axis)).enumerate() {
        let finite = |value: f64| if value.is_finite() { value.abs() } else { 0.0 };
        let factor = finite(inv_std[c] * layer.weight().map_or(1.0, |weight| weight[c]));
        scales.dx = scales.dx.max(factor * largest(dy.view()));
        scales.dbias = scales.dbias.max(dy.iter().map(|&dy| finite(dy)).sum());
        scales.dweight = scales.dweight.max(dy.iter().zip(x_hat).map(|(dy, x_hat)| finite(dy * x_hat)).sum());
    }
    allow_for_corners(&mut scales, layer, activated, upstream);
    scales
}

/// Widens the scales by the contribution of elements within rounding of a corner of the activation.
fn allow_for_corners(
    scales: &mut GradientScales,
    layer: &BatchNorm,
    activated: &ArrayD<f64>,
    upstream: &ArrayD<f64>,
) {
    let (corners, jump) = layer.config().activation.corners();
    let near = TOLERANCE * largest(activated.view());
    let is_near = |u: &f64| corners.iter().any(|corner| (u - corner).abs() <= near);
    let (Some(x_hat), Some(inv_std)) = (layer.x_hat(), layer.inv_std()) else { return };
    if !activated.iter().any(is_near) {
        return;
    }
    let unsure = activated.mapv(|u| is_near(&u));
    let axis = Axis(layer.config().layout.channel_axis(activated.ndim()));
    let (mut of_dx, mut of_dweight, mut of_dbias) = (0.0, 0.0, 0.0);
    for c in 0..layer.config().num_features {
        let [dy, x_hat] = [upstream, x_hat].map(|array| array.index_axis(axis, c));
        let (mut dbias, mut dweight) = (0.0, 0.0);
        Zip::from(&unsure.index_axis(axis, c)).and(&dy).and(&x_hat).for_each(|&unsure, &dy, &x_hat| {
            if unsure && dy.is_finite() && x_hat.is_finite() {
                dbias += jump * dy.abs();
                dweight += jump * (dy * x_hat).abs();
            }
        });
        let factor = inv_std[c] * layer.weight().map_or(1.0, |weight| weight[c].abs());
        let dx = factor * (dbias + largest(x_hat) * dweight) / dy.len() as f64;
        of_dx = f64::max(of_dx, dx);
        of_dweight = f64::max(of_dweight, dweight);
        of_dbias = f64::max(of_dbias, dbias);
    }
    scales.dx += of_dx / TOLERANCE;
    scales.dweight += of_dweight / TOLERANCE;
    scales.dbias += of_dbias / TOLERANCE;
    scales.unsure = Some(unsure);
}
