//! Tests of the tests. Each mutant is an implementation with one deliberate fault. The table of cases and the
//! comparator must reject all mutants, and must accept the controls, which have no fault.
//!
//! A mutant computes in f64, in another way than the reference, and rounds its results to f32, as a GPU does. So a
//! rejected mutant is rejected for its fault alone.

mod backward;
mod forward;
mod fused;

use std::collections::BTreeSet;
use std::fmt::Debug;
use wgpu_batchnorm::ndarray::Array1;
use wgpu_batchnorm::verify::{Case, CheckReport, Implementation, Inputs, Outputs, Reference, judge, table};
use wgpu_batchnorm::{Layout, Problem, Result};

/// Declares the faults, and for each the quantities that the comparator must blame over all cases: these, and no
/// others.
macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident => $blamed:expr,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Fault {
            /// The control.
            None,
            $($(#[$doc])* $name,)*
        }

        const FAULTS: &[(Fault, &[&str])] = &[$((Fault::$name, $blamed),)*];
    };
}
use faults;

/// Batch norm with a fault, or without one.
trait Mutated {
    /// Returns what the mutant makes of a case. `right` is the reference's result.
    fn outputs(&self, case: &Case, inputs: &Inputs, right: &Outputs) -> Result<Outputs>;
}

/// Returns the comparator's reports of mutants on a case.
fn judged<M: Mutated>(case: &Case, mutants: &[M]) -> Result<Vec<CheckReport>> {
    let inputs = case.inputs();
    let right = Reference.run(case, &inputs)?;
    mutants.iter().map(|mutant| Ok(judge(case, &mutant.outputs(case, &inputs, &right)?, &right))).collect()
}

/// Fails unless the mutant without a fault passes every case.
fn assert_control_passes<M: Mutated>(cases: impl IntoIterator<Item = Case>, control: &M) -> Result<()> {
    let mut failures = Vec::new();
    for case in cases {
        let reports = judged(&case, std::slice::from_ref(control))?;
        failures.extend(reports.iter().filter(|report| !report.passed()).map(CheckReport::to_string));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

/// Fails unless each fault is blamed on exactly the quantities that it declares.
fn assert_blamed<F: Copy + Debug, M: Mutated>(
    cases: impl IntoIterator<Item = Case>,
    faults: &[(F, &[&str])],
    mutant: fn(F) -> M,
) -> Result<()> {
    let mutants: Vec<M> = faults.iter().map(|(fault, _)| mutant(*fault)).collect();
    let mut blamed = vec![BTreeSet::new(); faults.len()];
    for case in cases {
        for (report, blamed) in judged(&case, &mutants)?.iter().zip(&mut blamed) {
            blamed.extend(report.mismatches.iter().map(|mismatch| mismatch.quantity().to_owned()));
        }
    }
    let misjudged: Vec<_> = faults
        .iter()
        .zip(blamed)
        .filter(|((_, expected), blamed)| !blamed.iter().eq(expected.iter()))
        .map(|((fault, expected), blamed)| format!("{fault:?}: {blamed:?} instead of {expected:?}"))
        .collect();
    assert!(misjudged.is_empty(), "survive, or are blamed for something else:\n{}", misjudged.join("\n"));
    Ok(())
}

/// Fails unless the mutants pass if the mean is 0, and are rejected if it is far above the standard deviation.
fn assert_rejected_at_a_large_mean_only<M: Mutated>(mutants: &[M]) -> Result<()> {
    let (mut accepted, mut rejected) = (0, 0);
    for case in small_plain_cases() {
        for (k, report) in judged(&case, mutants)?.iter().enumerate() {
            if case.mean == 0.0 {
                assert!(report.passed(), "mutant {k}: {report}");
                accepted += 1;
            } else if case.mean.abs() >= 1e4 && case.training {
                assert!(!report.passed(), "mutant {k}: {report}");
                rejected += 1;
            }
        }
    }
    assert!(accepted > 100 && rejected >= 3 * mutants.len(), "{accepted} accepted, {rejected} rejected");
    Ok(())
}

/// Returns the cases of f32 with neither an activation nor a residual.
fn plain_cases() -> impl Iterator<Item = Case> {
    table().into_iter().filter(Case::is_plain)
}

/// Returns the small plain cases. They are enough: a suite that cannot afford the large ones is as sharp.
fn small_plain_cases() -> impl Iterator<Item = Case> {
    plain_cases().filter(|case| case.shape.iter().product::<usize>() <= 20_000)
}

/// Returns the channel of the element at each flat index: the right one, or one with images and channels swapped,
/// or one with the layout ignored.
fn channel_of(case: &Case, problem: &Problem, swapped: bool, ignored: bool) -> impl Fn(usize) -> usize {
    let (outer, channels, inner) = (problem.outer(), problem.channels(), problem.inner());
    let rank = case.shape.len();
    let last = case.config.layout == Layout::ChannelsLast && rank > 2;
    let spatial: usize = if last { case.shape[1..rank - 1].iter().product() } else { inner };
    move |k| {
        if swapped {
            k / inner / outer
        } else if ignored {
            k / spatial % channels
        } else {
            k / inner % channels
        }
    }
}

/// Returns a parameter in f64, or its default for each channel.
fn exact(vector: &Option<Array1<f32>>, default: f64, channels: usize) -> Vec<f64> {
    match vector {
        Some(vector) => vector.iter().map(|&value| f64::from(value)).collect(),
        None => vec![default; channels],
    }
}

/// Rounds a value to f32, as a GPU would return it.
fn round(value: f64) -> f64 {
    f64::from(value as f32)
}

fn vector(values: impl Iterator<Item = f64>) -> Array1<f64> {
    values.map(round).collect()
}
