//! Checks an implementation of batch norm against the CPU reference.
//!
//! [`table`] lists the cases, an [`Implementation`] computes one case, and [`check`] compares each quantity of each
//! step with the [`Reference`], which computes in `f64`. The command line's `verify` checks an adapter this way. The
//! tests check the GPU, the reference and deliberately wrong implementations by the same table and the same measure.
//!
//! ```
//! use wgpu_batchnorm::verify::{Reference, check, table};
//!
//! for case in table().iter().take(20) {
//!     let report = check(case, &Reference)?;
//!     assert!(report.passed(), "{report}");
//! }
//! # Ok::<(), wgpu_batchnorm::Error>(())
//! ```

mod case;
#[cfg(feature = "internals")]
pub(crate) mod channel;
mod compare;
mod exact;
mod gpu;
mod judge;
#[cfg(feature = "internals")]
pub(crate) mod pieces;
mod random;
mod table;

pub use case::{Case, Inputs};
pub use compare::{Mismatch, compare, compare_scaled, compare_stored, largest};
pub use exact::Reference;
pub use judge::judge;
pub use random::Random;
pub use table::table;

use ndarray::{Array1, ArrayD};
use std::fmt;

/// The largest error allowed in `f32`, as a fraction of the quantity's scale.
///
/// One `f32` operation rounds by up to 2⁻²⁴ ≈ 6·10⁻⁸ of its result. y takes about six operations (mean, x − mean,
/// var + eps, 1/√, · scale, + bias), each on values no larger than the scale, and a reciprocal square root may err by
/// 2 units in the last place in WGSL: 5·10⁻⁷ at worst. The sums behind mean and var add little, since they are taken
/// in pieces around a pivot. So 10⁻⁶ leaves a factor of two for drivers that round more loosely. Mesa's lavapipe and
/// SwiftShader stay below 6.5·10⁻⁷ on the whole table. The tolerance is a hundred times smaller than the change from
/// a missing eps of 10⁻⁴, or from n instead of n − 1 at ten thousand values.
pub const TOLERANCE: f64 = 1e-6;

/// An implementation of batch norm: the GPU, the reference, or a wrong one that tests the tests.
pub trait Implementation {
    /// Returns the name, for messages.
    fn name(&self) -> String;

    /// Runs the passes of `case` in order on one layer, which starts with `inputs.state`. Each step runs forward with
    /// one batch of `inputs.xs`, then backward with one gradient of `inputs.dys` unless that is empty.
    ///
    /// # Errors
    /// Returns the implementation's errors.
    fn run(&self, case: &Case, inputs: &Inputs) -> crate::error::Result<Outputs>;
}

/// The results of an implementation.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// One step per batch, in order.
    pub steps: Vec<Step>,
}

/// The results of one forward and one backward pass, and the layer's state after them.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The output, of the shape of x.
    pub y: ArrayD<f64>,
    /// Mean of the batch, `[C]`; `None` if running statistics were used or the batch was empty.
    pub batch_mean: Option<Array1<f64>>,
    /// Biased variance of the batch, `[C]`; `None` when [`batch_mean`](Self::batch_mean) is.
    pub batch_var: Option<Array1<f64>>,
    /// Running mean, `[C]`; `None` without running statistics.
    pub running_mean: Option<Array1<f64>>,
    /// Running variance, `[C]`; `None` without running statistics.
    pub running_var: Option<Array1<f64>>,
    /// Number of training batches seen; `None` without running statistics.
    pub num_batches_tracked: Option<u64>,
    /// The gradients; `None` if only the forward pass ran.
    pub gradients: Option<StepGradients>,
}

/// The results of one backward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct StepGradients {
    /// Gradient with respect to x, of the shape of x.
    pub dx: ArrayD<f64>,
    /// Gradient with respect to the weight, `[C]`; `None` without a weight.
    pub dweight: Option<Array1<f64>>,
    /// Gradient with respect to the bias, `[C]`; `None` without a bias.
    pub dbias: Option<Array1<f64>>,
    /// Gradient with respect to the residual, of the shape of x; `None` if nothing was added.
    pub dresidual: Option<ArrayD<f64>>,
    /// Magnitudes of the terms that the gradients sum. [`judge`] uses only the scales of the exact results.
    pub scales: GradientScales,
}

/// Magnitudes of the terms that gradients sum. Non-finite terms do not count.
///
/// If the activation has a corner, terms within rounding of the corner may or may not pass. Each scale is then
/// larger, so that both results are allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GradientScales {
    /// The largest |dy·weight·inv_std|. Here and below, dy is the gradient with respect to the activation's input.
    pub dx: f64,
    /// The largest |dy|.
    pub dresidual: f64,
    /// The largest Σ|dy·x_hat| over all channels.
    pub dweight: f64,
    /// The largest Σ|dy| over all channels.
    pub dbias: f64,
    /// Elements within rounding of a corner of the activation, if any: dx and dresidual are not compared there.
    pub unsure: Option<ArrayD<bool>>,
}

/// The result of one case on one implementation.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckReport {
    /// Name of the case.
    pub case: String,
    /// Quantity and worst error over all steps, as a fraction of the quantity's scale. Lists `y`, `batch_mean`,
    /// `batch_var`, `running_mean`, `running_var`, `dx`, `dresidual`, `dweight` and `dbias`, as far as the case has
    /// them.
    pub errors: Vec<(&'static str, f64)>,
    /// All mismatches.
    pub mismatches: Vec<Mismatch>,
}

impl CheckReport {
    /// Returns whether there is no mismatch.
    pub fn passed(&self) -> bool {
        self.mismatches.is_empty()
    }

    /// Returns the worst error of a quantity; `None` if the case does not have it.
    pub fn error(&self, quantity: &str) -> Option<f64> {
        self.errors.iter().find(|(name, _)| *name == quantity).map(|(_, error)| *error)
    }

    /// Returns the worst error of all quantities.
    pub fn worst(&self) -> f64 {
        self.errors.iter().map(|(_, error)| *error).fold(0.0, f64::max)
    }

    /// Records the result of one comparison.
    fn note(&mut self, quantity: &'static str, result: Result<f64, Mismatch>) {
        let error = match result {
            Ok(error) => error,
            Err(mismatch) => {
                let error = mismatch.error();
                self.mismatches.push(mismatch);
                error
            }
        };
        match self.errors.iter_mut().find(|(name, _)| *name == quantity) {
            Some((_, worst)) => *worst = worst.max(error),
            None => self.errors.push((quantity, error)),
        }
    }

    /// Records a mismatch if a whole number differs or only one side has it.
    fn note_count(&mut self, name: String, actual: Option<u64>, exact: Option<u64>) {
        match (actual, exact) {
            (Some(actual), Some(exact)) if actual != exact => {
                self.mismatches.push(Mismatch::Count { name, actual, exact });
            }
            (actual, exact) if actual.is_some() != exact.is_some() => {
                self.mismatches.push(Mismatch::Presence { name, expected: exact.is_some() });
            }
            _ => {}
        }
    }
}

impl fmt::Display for CheckReport {
    /// Writes the case with its worst errors on one line, then a line for each mismatch.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.case)?;
        for (quantity, error) in &self.errors {
            write!(f, " {quantity} {error:.1e}")?;
        }
        for mismatch in &self.mismatches {
            write!(f, "\n  {mismatch}")?;
        }
        Ok(())
    }
}

/// Runs `implementation` and the [`Reference`] on `case`, and compares their results: see [`judge`].
///
/// # Errors
/// Returns the implementation's errors. A wrong result is a mismatch in the report, not an error.
pub fn check(
    case: &Case,
    implementation: &(impl Implementation + ?Sized),
) -> crate::error::Result<CheckReport> {
    let inputs = case.inputs();
    let exact = Reference.run(case, &inputs)?;
    Ok(judge(case, &implementation.run(case, &inputs)?, &exact))
}

#[cfg(test)]
mod tests {
    use super::{Case, Implementation, Mismatch, Outputs, Reference, check, judge, table};
    use crate::activation::Activation;
    use crate::error::Result;
    use ndarray::Array1;

    fn small_cases() -> Vec<Case> {
        table().into_iter().filter(|case| case.shape.iter().product::<usize>() < 10_000).collect()
    }

    #[test]
    fn the_reference_agrees_with_itself() -> Result<()> {
        for case in small_cases() {
            let report = check(&case, &Reference)?;
            assert!(report.passed() && report.worst() == 0.0, "{report}");
        }
        Ok(())
    }

    fn outputs() -> Result<(Case, Outputs)> {
        let wanted = |case: &Case| case.name == "batch of vectors [4, 5]";
        let mut case = table().into_iter().find(wanted).expect("the table has a case of this name");
        case.steps = 2;
        let outputs = Reference.run(&case, &case.inputs())?;
        Ok((case, outputs))
    }

    /// Elements within rounding of a corner may go either way, and no others may.
    #[test]
    fn corners_are_allowed_for_and_only_they() -> Result<()> {
        let (mut case, _) = outputs()?;
        case.config = case.config.activation(Activation::Relu);
        (case.steps, case.training) = (1, false);
        let mut inputs = case.inputs();
        // With running mean 0 and variance 1, weight 1 and bias 0, x reaches the activation almost unchanged.
        inputs.state = crate::state::BatchNormState::new(&case.config);
        inputs.xs[0][[1, 2]] = 1e-8;
        let exact = Reference.run(&case, &inputs)?;
        let run = |y: f64, dx: f64, index: [usize; 2]| {
            let mut actual = exact.clone();
            actual.steps[0].y[index] = y;
            let gradients = actual.steps[0].gradients.as_mut().expect("there is a dy");
            gradients.dx[index] = dx;
            judge(&case, &actual, &exact).passed()
        };
        assert!(run(0.0, 0.0, [1, 2]));
        // Another element with a positive x does not pass without its gradient.
        let through = |index: &[usize; 2]| inputs.xs[0][*index] > 0.1;
        let other = [[0, 0], [0, 1], [2, 3], [3, 4]].into_iter().find(through).expect("half of them do");
        assert!(!run(exact.steps[0].y[other], 0.0, other));
        // The table's small cases have no such elements.
        for case in small_cases() {
            let inputs = case.inputs();
            for step in Reference.run(&case, &inputs)?.steps {
                let scales = step.gradients.expect("every case has a dy").scales;
                assert!(scales.unsure.is_none(), "{}", case.name);
            }
        }
        Ok(())
    }

    #[test]
    fn every_quantity_of_every_step_is_compared() -> Result<()> {
        let (case, exact) = outputs()?;
        for k in 0..2 {
            let nudge = |vector: &mut Option<Array1<f64>>| {
                if let Some(vector) = vector {
                    let std = 2.0;
                    vector[0] += 1e-5 * std;
                }
            };
            let mut wrong = vec![exact.clone(); 6];
            wrong[0].steps[k].y[[1, 2]] += 1e-4;
            nudge(&mut wrong[1].steps[k].batch_mean);
            nudge(&mut wrong[2].steps[k].batch_var);
            nudge(&mut wrong[3].steps[k].running_mean);
            nudge(&mut wrong[4].steps[k].running_var);
            wrong[5].steps[k].num_batches_tracked = Some(77);
            let quantities =
                ["y", "batch_mean", "batch_var", "running_mean", "running_var", "num_batches_tracked"];
            for (quantity, wrong) in quantities.into_iter().zip(wrong) {
                let report = judge(&case, &wrong, &exact);
                assert_eq!(report.mismatches.len(), 1, "{quantity}: {report}");
                assert_eq!(report.mismatches[0].quantity(), quantity);
                assert!(report.to_string().contains(&format!("{quantity}.{k}")), "{report}");
                if quantity != "num_batches_tracked" {
                    assert!(
                        report.error(quantity).is_some_and(|error| error > 1e-6 && error == report.worst())
                    );
                }
            }
        }
        Ok(())
    }

    /// In each quantity, infinity is right for what f32 cannot hold, and for nothing else.
    #[test]
    fn infinity_is_for_what_overflows() -> Result<()> {
        let (mut case, mut exact) = outputs()?;
        case.residual = true;
        for step in &mut exact.steps {
            let gradients = step.gradients.as_mut().expect("there is a dy");
            gradients.dresidual = Some(gradients.dx.clone());
        }
        let quantities = [
            "y",
            "dx",
            "dresidual",
            "dweight",
            "dbias",
            "batch_mean",
            "batch_var",
            "running_mean",
            "running_var",
        ];
        let first = |outputs: &mut Outputs, quantity: &str, value: f64| {
            let step = &mut outputs.steps[1];
            let gradients = step.gradients.as_mut().expect("there is a dy");
            let found = match quantity {
                "y" => step.y.first_mut(),
                "dx" => gradients.dx.first_mut(),
                "dresidual" => gradients.dresidual.as_mut().and_then(|dresidual| dresidual.first_mut()),
                "dweight" => gradients.dweight.as_mut().and_then(|vector| vector.first_mut()),
                "dbias" => gradients.dbias.as_mut().and_then(|vector| vector.first_mut()),
                "batch_mean" => step.batch_mean.as_mut().and_then(|vector| vector.first_mut()),
                "batch_var" => step.batch_var.as_mut().and_then(|vector| vector.first_mut()),
                "running_mean" => step.running_mean.as_mut().and_then(|vector| vector.first_mut()),
                _ => step.running_var.as_mut().and_then(|vector| vector.first_mut()),
            };
            *found.expect("the case has every quantity") = value;
            let scales = &mut gradients.scales;
            (scales.dx, scales.dresidual, scales.dweight, scales.dbias) =
                (value.abs(), value.abs(), value.abs(), value.abs());
        };
        let (max, inf) = (f64::from(f32::MAX), f64::INFINITY);
        for quantity in quantities {
            let passes = |right: f64, found: f64| {
                let (mut actual, mut exact) = (exact.clone(), exact.clone());
                first(&mut exact, quantity, right);
                first(&mut actual, quantity, found);
                let report = judge(&case, &actual, &exact);
                assert!(report.mismatches.iter().all(|mismatch| mismatch.quantity() == quantity), "{report}");
                report.passed()
            };
            for right in [3.5e38, 1e39, 1e300, inf] {
                assert!(passes(right, inf), "{quantity}: infinity for {right:e}");
                for wrong in [max, 3e38, 0.0, -inf, f64::NAN] {
                    assert!(!passes(right, wrong), "{quantity}: {wrong:e} for {right:e}");
                }
            }
            for right in [1.0, 1e30, 3e38, 3.39e38] {
                for wrong in [inf, -inf, f64::NAN] {
                    assert!(!passes(right, wrong), "{quantity}: {wrong:e} for {right:e}");
                }
                assert!(
                    passes(right, right * (1.0 + 5e-7)) && !passes(right, right * (1.0 + 1e-5)),
                    "{quantity}"
                );
            }
            assert!(passes(max, inf) && passes(max * (1.0 + 5e-7), max), "{quantity}");
        }
        Ok(())
    }

    #[test]
    fn what_is_missing_or_surplus_is_a_mismatch() -> Result<()> {
        let (case, exact) = outputs()?;
        let mut less = exact.clone();
        less.steps[1].batch_mean = None;
        less.steps[1].num_batches_tracked = None;
        let presence = |report: super::CheckReport, wanted: bool| {
            let mut names = Vec::new();
            for mismatch in report.mismatches {
                assert!(matches!(mismatch, Mismatch::Presence { expected, .. } if expected == wanted));
                names.push(mismatch.quantity().to_owned());
            }
            names
        };
        assert_eq!(presence(judge(&case, &less, &exact), true), ["batch_mean", "num_batches_tracked"]);
        assert_eq!(presence(judge(&case, &exact, &less), false), ["batch_mean", "num_batches_tracked"]);

        less = exact.clone();
        less.steps.pop();
        assert_eq!(
            judge(&case, &less, &exact).mismatches,
            [Mismatch::Count { name: "steps".to_owned(), actual: 1, exact: 2 }]
        );
        Ok(())
    }
}
