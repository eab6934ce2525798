//! `verify`: checks the adapter against the CPU reference, over the library's table of cases.

use crate::Outcome;
use crate::adapter::{Common, Device};
use crate::error::{Error, Result, line as error_line};
use crate::report::{Format, check_json, errors};
use crate::settings;
use crate::terminal::{self, Progress};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Instant;
use wgpu_batchnorm::verify::{Case, CheckReport, Implementation, TOLERANCE, check, table};
use wgpu_batchnorm::{Activation, DType};

/// Check the adapter against the CPU reference, over a table of shapes, options and data
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do without subgroup operations, even where the adapter has them
    #[arg(long)]
    no_subgroups: bool,
    /// All cases with elements of this type: f32, f16 or bf16 [default: as the table has them]
    #[arg(long, value_name = "TYPE", value_parser = settings::dtype)]
    dtype: Option<DType>,
    /// All cases with this activation: identity, relu, leaky-relu=SLOPE, relu6, silu, sigmoid, tanh, gelu or gelu-tanh
    /// [default: as the table has them]
    #[arg(long, value_name = "NAME", value_parser = settings::activation)]
    activation: Option<Activation>,
    /// Only the cases whose names contain this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    #[command(flatten)]
    format: Format,
}

impl Args {
    fn cases(&self) -> Result<Vec<Case>> {
        let mut cases = table();
        if let Some(text) = &self.only {
            cases.retain(|case| case.name.contains(text));
            if cases.is_empty() {
                return Err(Error::NoCase { text: text.clone() });
            }
        }
        if let Some(dtype) = self.dtype {
            // Drops the other types, since those cases repeat the f32 ones.
            cases.retain(|case| case.dtype == DType::F32 || case.dtype == dtype);
            cases.iter_mut().for_each(|case| case.dtype = dtype);
        }
        if let Some(activation) = self.activation {
            cases.iter_mut().for_each(|case| case.config.activation = activation);
        }
        Ok(cases)
    }
}

pub(crate) fn verify(args: &Args, common: &Common, out: &mut impl Write) -> Result<Outcome> {
    let cases = args.cases()?;
    let device = common.device(args.no_subgroups)?;
    if matches!(device, Device::Reference) {
        terminal::note("note: the CPU reference is checked against itself: this tells nothing about a GPU");
    }
    check_all(&cases, &device, &description(&device), args.format.json, out)
}

/// Returns the device's name, and says if it goes without subgroup operations, by choice or by nature.
fn description(device: &Device) -> String {
    match device {
        Device::Gpu(gpu) if !gpu.profile().has_subgroups() => format!("{}, without subgroups", gpu.profile()),
        device => device.name(),
    }
}

/// The result of a case: a report, or the error that prevented it. Both a mismatch and an error are failures.
type Checked = std::result::Result<CheckReport, wgpu_batchnorm::Error>;

/// Quantities in the order of the listing.
const QUANTITIES: [&str; 9] =
    ["y", "dx", "dresidual", "dweight", "dbias", "batch_mean", "batch_var", "running_mean", "running_var"];

fn check_all(
    cases: &[Case],
    device: &dyn Implementation,
    adapter: &str,
    json: bool,
    out: &mut impl Write,
) -> Result<Outcome> {
    let progress = Progress::new();
    let started = Instant::now();
    let (mut passed, mut results) = (0, Vec::new());
    let mut worst: Vec<(&'static str, f64)> = Vec::new();
    for (k, case) in cases.iter().enumerate() {
        progress.show(&format!("{}/{} {}", k + 1, cases.len(), case.name));
        let checked = check(case, device);
        progress.clear();
        passed += usize::from(has_passed(&checked));
        for (quantity, error) in checked.iter().flat_map(|report| &report.errors) {
            match worst.iter_mut().find(|(name, _)| name == quantity) {
                Some((_, worst)) => *worst = worst.max(*error),
                None => worst.push((quantity, *error)),
            }
        }
        if json {
            results.push(result_json(case, &checked));
        } else {
            writeln!(out, "{}", line(case, &checked))?;
        }
    }
    worst.sort_by_key(|(quantity, _)| QUANTITIES.iter().position(|name| name == quantity));
    let seconds = started.elapsed().as_secs_f64();
    if json {
        let worst: serde_json::Map<String, Value> =
            worst.iter().map(|(quantity, error)| ((*quantity).to_owned(), json!(error))).collect();
        let report = json!({
            "adapter": adapter,
            "cases": results,
            "total": cases.len(),
            "passed": passed,
            "worst_errors": worst,
            "tolerance": TOLERANCE,
            "seconds": seconds,
        });
        writeln!(out, "{report:#}")?;
    } else {
        writeln!(
            out,
            "{} cases, {passed} passed, worst error {} (tolerance {TOLERANCE:e}), \
             {seconds:.1} seconds on {adapter}",
            cases.len(),
            errors(&worst),
        )?;
    }
    Ok(Outcome::new(passed == cases.len()))
}

fn has_passed(checked: &Checked) -> bool {
    checked.as_ref().is_ok_and(CheckReport::passed)
}

/// Returns the case's name, its errors and the verdict, then a line for each mismatch.
fn line(case: &Case, checked: &Checked) -> String {
    match checked {
        Ok(report) => {
            let verdict = if report.passed() { "PASS" } else { "FAIL" };
            let mut line = format!("{:<58} {}  {verdict}", case.name, errors(&report.errors));
            for mismatch in &report.mismatches {
                line = format!("{line}\n    {mismatch}");
            }
            line
        }
        Err(error) => format!("{:<58} {}  FAIL", case.name, error_line(error)),
    }
}

fn result_json(case: &Case, checked: &Checked) -> Value {
    let mut result = match checked {
        Ok(report) => check_json(report),
        Err(error) => json!({ "passed": false, "error": error_line(error) }),
    };
    result["case"] = json!(case.name);
    result
}

#[cfg(test)]
mod tests {
    use super::check_all;
    use crate::Outcome;
    use wgpu_batchnorm::verify::{Case, Implementation, Inputs, Outputs, Reference, table};
    use wgpu_batchnorm::{Error, Result};

    /// The reference, except in the case of this name: there the running variance is wrong, or it fails.
    struct Wrong {
        case: String,
        fails: bool,
    }

    impl Implementation for Wrong {
        fn name(&self) -> String {
            "wrong".to_owned()
        }

        fn run(&self, case: &Case, inputs: &Inputs) -> Result<Outputs> {
            let mut outputs = Reference.run(case, inputs)?;
            if case.name == self.case {
                if self.fails {
                    return Err(Error::NoForward);
                }
                for var in outputs.steps[0].running_var.iter_mut().flatten() {
                    *var *= 1.001;
                }
            }
            Ok(outputs)
        }
    }

    #[test]
    fn one_case_decides() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let cases: Vec<Case> = table().into_iter().filter(|case| case.shape == [4, 6, 5, 7]).collect();
        assert!(cases.len() > 5);
        let checked = |case: &str, fails: bool, json: bool| {
            let mut text = Vec::new();
            let device = Wrong { case: case.to_owned(), fails };
            let outcome = check_all(&cases, &device, "wrong", json, &mut text);
            (outcome.ok(), String::from_utf8_lossy(&text).into_owned())
        };
        let (outcome, text) = checked("", false, false);
        assert_eq!(outcome, Some(Outcome::Right));
        assert!(
            !text.contains("FAIL") && text.contains(&format!("{0} cases, {0} passed", cases.len())),
            "{text}"
        );

        let name = &cases[3].name;
        for fails in [false, true] {
            let (outcome, text) = checked(name, fails, false);
            assert_eq!(outcome, Some(Outcome::CheckFailed));
            assert_eq!(text.matches("FAIL").count(), 1);
            let line = text.lines().find(|line| line.starts_with(name.as_str()));
            assert!(line.is_some_and(|line| line.ends_with("FAIL")), "{text}");
            assert!(text.contains(&format!("{} cases, {} passed", cases.len(), cases.len() - 1)), "{text}");

            let (outcome, text) = checked(name, fails, true);
            assert_eq!(outcome, Some(Outcome::CheckFailed));
            let report: serde_json::Value = serde_json::from_str(&text)?;
            assert_eq!(
                (&report["cases"][3]["passed"], &report["cases"][4]["passed"]),
                (&false.into(), &true.into())
            );
            assert_eq!(report["passed"], cases.len() - 1);
        }
        Ok(())
    }
}
