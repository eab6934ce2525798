//! The exact results of a case, and the scales of its gradients.

use super::{Case, GradientScales, Implementation, Inputs, Outputs, Step, StepGradients, TOLERANCE, largest};
use crate::reference::{self, BatchNorm, Saved};
use ndarray::{ArrayD, ArrayView1, Axis, Zip};

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
            let y = match inputs.residuals.get(k) {
                Some(residual) => layer.forward_add(x.view(), residual.mapv(f64::from).view())?,
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
    let reference::Gradients { dx, dweight, dbias, dresidual } = layer.backward(dy.view())?;
    let saved = layer.saved()?;
    let mut scales = plain_scales(layer, saved, &layer.before_activation_gradient(saved, dy.view()));
    let near = TOLERANCE * largest(saved.activated.view());
    if let Some(unsure) = unsure(layer, saved, near) {
        let channels = 0..layer.config().num_features;
        let contributions: Vec<_> =
            channels.map(|c| Contribution::new(layer, saved, c, &unsure, dy)).collect();
        widen(&mut scales, layer, saved.factors.inv_std.view(), &contributions);
        scales.unsure = Some(unsure);
    }
    Ok(StepGradients { dx, dweight, dbias, dresidual, scales })
}

/// Returns the scales without regard to the activation's corners. `dresidual` is the gradient with respect to the
/// activation's input.
pub(super) fn plain_scales(layer: &BatchNorm, saved: &Saved, dresidual: &ArrayD<f64>) -> GradientScales {
    let mut scales = GradientScales { dresidual: largest(dresidual.view()), ..GradientScales::default() };
    let axis = Axis(layer.config().layout.channel_axis(dresidual.ndim()));
    for (c, (dy, x_hat)) in dresidual.axis_iter(axis).zip(saved.x_hat.axis_iter(axis)).enumerate() {
        let finite = |value: f64| if value.is_finite() { value.abs() } else { 0.0 };
        let factor = finite(saved.factors.inv_std[c] * layer.weight().map_or(1.0, |weight| weight[c]));
        scales.dx = scales.dx.max(factor * largest(dy.view()));
        scales.dbias = scales.dbias.max(dy.iter().map(|&dy| finite(dy)).sum());
        scales.dweight = scales.dweight.max(dy.iter().zip(x_hat).map(|(dy, x_hat)| finite(dy * x_hat)).sum());
    }
    scales
}

/// Returns which elements are no farther than `near` from a corner of the activation, if any is.
pub(super) fn unsure(layer: &BatchNorm, saved: &Saved, near: f64) -> Option<ArrayD<bool>> {
    let (corners, _) = layer.config().activation.corners();
    let is_near = |u: &f64| corners.iter().any(|corner| (u - corner).abs() <= near);
    saved.activated.iter().any(is_near).then(|| saved.activated.mapv(|u| is_near(&u)))
}

/// What the elements within rounding of a corner of the activation contribute to a channel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contribution {
    pub(super) dbias: f64,
    pub(super) dweight: f64,
    /// The largest |x_hat| of the channel.
    pub(super) x_hat: f64,
    /// The number of the channel's elements, near a corner or not.
    pub(super) n: usize,
}

impl Contribution {
    /// Adds up the elements of channel `c`. `dy` is the gradient with respect to the output.
    pub(super) fn new(
        layer: &BatchNorm,
        saved: &Saved,
        c: usize,
        unsure: &ArrayD<bool>,
        dy: &ArrayD<f64>,
    ) -> Self {
        let (_, jump) = layer.config().activation.corners();
        let axis = Axis(layer.config().layout.channel_axis(dy.ndim()));
        let [dy, x_hat] = [dy, &saved.x_hat].map(|array| array.index_axis(axis, c));
        let (mut dbias, mut dweight) = (0.0, 0.0);
        Zip::from(&unsure.index_axis(axis, c)).and(&dy).and(&x_hat).for_each(|&unsure, &dy, &x_hat| {
            if unsure && dy.is_finite() && x_hat.is_finite() {
                dbias += jump * dy.abs();
                dweight += jump * (dy * x_hat).abs();
            }
        });
        Self { dbias, dweight, x_hat: largest(x_hat), n: dy.len() }
    }
}

/// Widens the scales by the contributions of elements within rounding of a corner of the activation.
pub(super) fn widen(
    scales: &mut GradientScales,
    layer: &BatchNorm,
    inv_std: ArrayView1<'_, f64>,
    contributions: &[Contribution],
) {
    let (mut of_dx, mut of_dweight, mut of_dbias) = (0.0, 0.0, 0.0);
    for (c, &Contribution { dbias, dweight, x_hat, n }) in contributions.iter().enumerate() {
        let factor = inv_std[c] * layer.weight().map_or(1.0, |weight| weight[c].abs());
        let dx = factor * (dbias + x_hat * dweight) / n as f64;
        of_dx = f64::max(of_dx, dx);
        of_dweight = f64::max(of_dweight, dweight);
        of_dbias = f64::max(of_dbias, dbias);
    }
    scales.dx += of_dx / TOLERANCE;
    scales.dweight += of_dweight / TOLERANCE;
    scales.dbias += of_dbias / TOLERANCE;
}
