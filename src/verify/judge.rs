//! Compares results with the exact ones, each by the scale of its quantity.

use super::{Case, CheckReport, Mismatch, Outputs, Step, StepGradients, TOLERANCE, compare_stored, largest};
use crate::dtype::DType;
use ndarray::{ArrayD, Zip};

/// Compares each quantity of each step with the exact one. The largest error allowed is [`TOLERANCE`]. Tensors of f16
/// or bf16 may also be off by a unit in the last place of the element type. What is beyond the largest number of its
/// type is infinite: see [`compare_stored`].
///
/// An error is relative to the **scale** of its quantity:
///
/// - y and the variances: the largest finite |exact|.
/// - Means: the largest finite max(|mean|, √var) over all channels. A mean is only ever subtracted from values about
///   a standard deviation away from it, and it is an average of such values. The mean of data around 0 is close to 0
///   by chance, while its rounding error is proportional to the values. Relative to |mean| alone, a correct
///   implementation would fail by luck.
/// - Gradients: the magnitude of the terms that they sum ([`GradientScales`](super::GradientScales)). Sums cancel: with
///   two values per channel, dx is a hundred thousand times smaller than any of its terms, and the remainder is
///   rounding, in PyTorch as well.
///
/// `num_batches_tracked` must agree exactly. A quantity that is missing, or present although it should not be, is a
/// mismatch.
pub fn judge(case: &Case, actual: &Outputs, exact: &Outputs) -> CheckReport {
    let mut report = CheckReport { case: case.name.clone(), errors: Vec::new(), mismatches: Vec::new() };
    let steps = |outputs: &Outputs| Some(outputs.steps.len() as u64);
    report.note_count("steps".to_owned(), steps(actual), steps(exact));
    for (k, (actual, exact)) in actual.steps.iter().zip(&exact.steps).enumerate() {
        judge_step(&mut report, case, k, (actual, exact), largest(exact.y.view()));
    }
    report
}

/// Compares the results of step `k`, or of a part of it. `largest_y` is the largest finite |exact y| of the whole step.
pub(super) fn judge_step(
    report: &mut CheckReport,
    case: &Case,
    k: usize,
    (actual, exact): (&Step, &Step),
    largest_y: f64,
) {
    let name = |quantity: &str| {
        if case.steps == 1 { quantity.to_owned() } else { format!("{quantity}.{k}") }
    };
    // Exact values may be beyond what f32 holds.
    let within_f32 = |scale: f64| scale.min(f32::MAX.into());
    let scale = within_f32(largest_y);
    let y = compare_stored(&name("y"), actual.y.view(), exact.y.view(), case.dtype, scale, TOLERANCE);
    report.note("y", y);
    let vectors = [
        ("batch_mean", &actual.batch_mean, &exact.batch_mean, &exact.batch_var),
        ("batch_var", &actual.batch_var, &exact.batch_var, &None),
        ("running_mean", &actual.running_mean, &exact.running_mean, &exact.running_var),
        ("running_var", &actual.running_var, &exact.running_var, &None),
    ];
    for (quantity, actual, exact, exact_var) in vectors {
        match (actual, exact) {
            (Some(actual), Some(exact)) => {
                let std = exact_var.as_ref().map_or(0.0, |var| largest(var.view()).sqrt());
                let scale = within_f32(largest(exact.view()).max(std));
                let name = name(quantity);
                let (actual, exact) = (actual.view(), exact.view());
                report.note(quantity, compare_stored(&name, actual, exact, DType::F32, scale, TOLERANCE));
            }
            (None, None) => {}
            (_, exact) => {
                report.note(
                    quantity,
                    Err(Mismatch::Presence { name: name(quantity), expected: exact.is_some() }),
                );
            }
        }
    }
    report.note_count(name("num_batches_tracked"), actual.num_batches_tracked, exact.num_batches_tracked);
    judge_gradients(report, &name, case.dtype, actual.gradients.as_ref(), exact.gradients.as_ref());
}

/// Compares the gradients of one step.
fn judge_gradients(
    report: &mut CheckReport,
    name: &impl Fn(&str) -> String,
    dtype: DType,
    actual: Option<&StepGradients>,
    exact: Option<&StepGradients>,
) {
    let (actual, exact) = match (actual, exact) {
        (Some(actual), Some(exact)) => (actual, exact),
        (None, None) => return,
        (_, exact) => {
            let expected = exact.is_some();
            report.note("gradients", Err(Mismatch::Presence { name: name("gradients"), expected }));
            return;
        }
    };
    let scales = &exact.scales;
    let stored = |quantity, actual: &ArrayD<f64>, exact: &ArrayD<f64>, scale| {
        let settled = scales.unsure.as_ref().filter(|_| actual.shape() == exact.shape()).map(|unsure| {
            let choose = |&unsure: &bool, &actual: &f64, &exact: &f64| if unsure { exact } else { actual };
            Zip::from(unsure).and(actual).and(exact).map_collect(choose)
        });
        let actual = settled.as_ref().unwrap_or(actual);
        compare_stored(&name(quantity), actual.view(), exact.view(), dtype, scale, TOLERANCE)
    };
    report.note("dx", stored("dx", &actual.dx, &exact.dx, scales.dx));
    match (&actual.dresidual, &exact.dresidual) {
        (Some(actual), Some(exact)) => {
            report.note("dresidual", stored("dresidual", actual, exact, scales.dresidual));
        }
        (None, None) => {}
        (_, exact) => {
            report.note(
                "dresidual",
                Err(Mismatch::Presence { name: name("dresidual"), expected: exact.is_some() }),
            );
        }
    }
    let vectors = [
        ("dweight", &actual.dweight, &exact.dweight, scales.dweight),
        ("dbias", &actual.dbias, &exact.dbias, scales.dbias),
    ];
    for (quantity, actual, exact, scale) in vectors {
        let result = match (actual, exact) {
            (Some(actual), Some(exact)) => {
                let (actual, exact) = (actual.view(), exact.view());
                compare_stored(&name(quantity), actual, exact, DType::F32, scale, TOLERANCE)
            }
            (None, None) => continue,
            (_, exact) => Err(Mismatch::Presence { name: name(quantity), expected: exact.is_some() }),
        };
        report.note(quantity, result);
    }
}
