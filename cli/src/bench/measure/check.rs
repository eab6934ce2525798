//! Checks each pass before it is timed, on the same buffers and plans.

use super::memory::{BoundPass, Tensors, case};
use super::reference::reference;
use super::timing::Clock;
use crate::bench::sets::Shape;
use wgpu_batchnorm::internals::Pass;
use wgpu_batchnorm::ndarray::{Array1, ArrayD};
use wgpu_batchnorm::verify::{CheckReport, Inputs, Outputs, judge};
use wgpu_batchnorm::{BoundPlan, DType, Result, wgpu};

/// The exact results of a shape's passes.
pub(crate) struct Exact<'a> {
    shape: &'a Shape,
    inputs: &'a Inputs,
    /// Results of forward in training, and of backward: computed on first use, and kept for the other passes.
    training: Option<Outputs>,
}

impl<'a> Exact<'a> {
    pub(crate) fn new(shape: &'a Shape, inputs: &'a Inputs) -> Self {
        Self { shape, inputs, training: None }
    }

    /// Clears the results of other passes, runs the pass once, and judges its results.
    pub(crate) fn check(
        &mut self,
        clock: &Clock<'_>,
        pass: Pass,
        tensors: &Tensors,
        bound: &BoundPass,
    ) -> Result<CheckReport> {
        let mut reset = Ok(());
        clock.submit(|encoder| {
            reset = tensors.reset(self.inputs, encoder);
            record(&bound.before, encoder);
            record(&bound.timed, encoder);
        })?;
        reset?;
        let case = case(self.shape, pass);
        let actual = tensors.outputs(pass)?;
        let mut eval = None;
        let exact = if pass.is_training() { &mut self.training } else { &mut eval };
        let exact = match exact {
            Some(exact) => exact,
            None if pass.is_training() => exact.insert(reference(&case, self.inputs)?),
            None => {
                let Inputs { xs, residuals, state, .. } = self.inputs;
                let (xs, residuals, state) = (xs.clone(), residuals.clone(), state.clone());
                exact.insert(reference(&case, &Inputs { xs, dys: Vec::new(), residuals, state })?)
            }
        };
        // Excludes what this pass does not compute from the comparison.
        let gradients = if pass.has_backward() { None } else { exact.steps[0].gradients.take() };
        let mut report = judge(&case, &actual, exact);
        if self.shape.variant.apart {
            allow_rounding_between(&mut report, case.dtype, &actual, exact);
        }
        exact.steps[0].gradients = gradients.or(exact.steps[0].gradients.take());
        Ok(report)
    }
}

/// Drops mismatches that [`judge`] found with an activation apart, if rounding explains them. With 16-bit elements,
/// the tensor between the two passes is rounded, too. If the activation has a corner, rounding moves some elements
/// across it. So only the mean error of a tensor counts there. It may be 4 epsilon times the tensor's largest value,
/// or a twentieth of that value for dweight and dbias, which are sums of few elements.
fn allow_rounding_between(report: &mut CheckReport, dtype: DType, actual: &Outputs, exact: &Outputs) {
    if dtype == DType::F32 {
        return;
    }
    let mut tensors: Vec<(&str, f64, Vec<f64>, Vec<f64>)> = Vec::new();
    let (unit, of_sums) = (4.0 * dtype.epsilon(), 0.05);
    let values = |array: &ArrayD<f64>| array.iter().copied().collect::<Vec<f64>>();
    for (actual, exact) in actual.steps.iter().zip(&exact.steps) {
        tensors.push(("y", unit, values(&actual.y), values(&exact.y)));
        let (Some(actual), Some(exact)) = (&actual.gradients, &exact.gradients) else { continue };
        tensors.push(("dx", unit, values(&actual.dx), values(&exact.dx)));
        let of = |array: &Option<ArrayD<f64>>| array.as_ref().map(values).unwrap_or_default();
        tensors.push(("dresidual", unit, of(&actual.dresidual), of(&exact.dresidual)));
        let of = |vector: &Option<Array1<f64>>| vector.iter().flatten().copied().collect();
        tensors.push(("dweight", of_sums, of(&actual.dweight), of(&exact.dweight)));
        tensors.push(("dbias", of_sums, of(&actual.dbias), of(&exact.dbias)));
    }
    for (name, allowed, actual, exact) in tensors {
        let largest = exact.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        let total: f64 = actual.iter().zip(&exact).map(|(actual, exact)| (actual - exact).abs()).sum();
        // The comparison is false for NaN.
        if actual.len() == exact.len() && total / exact.len() as f64 <= allowed * largest {
            report.mismatches.retain(|mismatch| mismatch.quantity() != name);
        }
    }
}

fn record(plans: &[BoundPlan], encoder: &mut wgpu::CommandEncoder) {
    plans.iter().for_each(|plan| plan.record(encoder));
}

#[cfg(test)]
mod tests {
    use super::super::memory::{BoundPass, Memory, case};
    use super::super::pass::PlannedPass;
    use super::super::timing::Clock;
    use super::Exact;
    use crate::bench::sets::{Shape, Variant};
    use wgpu_batchnorm::internals::Pass;
    use wgpu_batchnorm::{Activation, DType, Gpu, Layout, Result};

    #[test]
    fn every_pass_is_checked_and_leftovers_do_not_count() -> Result<()> {
        let gpu = Gpu::new()?;
        checked(&gpu, Variant::default())?;
        let activation = Activation::Silu;
        for (dtype, add) in [(DType::F32, true), (DType::F16, true), (DType::BF16, false)] {
            for apart in [false, true] {
                checked(&gpu, Variant { dtype, activation, add, apart })?;
            }
        }
        Ok(())
    }

    fn checked(gpu: &Gpu, variant: Variant) -> Result<()> {
        let clock = Clock::new(gpu);
        let shape = Shape { variant, ..Shape::new(vec![3, 5, 7, 4], Layout::ChannelsLast) };
        let inputs = case(&shape, Pass::ForwardTrain).inputs();
        let plan = |pass| PlannedPass::new(&shape, pass, gpu.profile(), &gpu.tunings());
        let passes = Pass::ALL.map(plan).into_iter().collect::<Result<Vec<_>>>()?;
        let memory = Memory::new(gpu, &shape, &passes, &inputs)?;
        let mut exact = Exact::new(&shape, &inputs);
        for planned in &passes {
            let bound = memory.bind(gpu, planned)?.remove(0);
            for _ in 0..2 {
                let report = exact.check(&clock, planned.pass, memory.first(), &bound)?;
                assert!(report.passed(), "{report}");
                let expected = if planned.pass.has_backward() { "dbias" } else { "y" };
                assert!(report.error(expected).is_some_and(f64::is_finite), "{report}");
                assert_eq!(report.error("batch_var").is_some(), planned.pass.is_training(), "{report}");
            }
            // A pass that does nothing must not pass the check by the correct results of the run before.
            let idle = BoundPass { before: bound.before.clone(), timed: Vec::new() };
            let report = exact.check(&clock, planned.pass, memory.first(), &idle)?;
            assert!(!report.passed(), "{report}");
        }
        Ok(())
    }
}
