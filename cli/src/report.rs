//! Prints results, above all those of `run`: the statistics of each channel, and the error against the CPU reference.

use crate::input::Job;
use crate::results::Results;
use crate::statistics::Spread;
use serde_json::{Map, Value, json};
use std::fmt::{Display, Write};
use std::path::Path;
use wgpu_batchnorm::DType;
use wgpu_batchnorm::ndarray::Array1;
use wgpu_batchnorm::verify::{CheckReport, TOLERANCE};

/// Most channels that are listed individually.
const ROWS: usize = 16;

/// How a command prints what it has to say.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Format {
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Time spent, in milliseconds.
#[derive(Default)]
pub(crate) struct Timing {
    pub(crate) read_ms: f64,
    /// Upload, compilation of the kernels, computation and readback.
    pub(crate) compute_ms: f64,
    /// Running the CPU reference and comparing with it.
    pub(crate) check_ms: f64,
    pub(crate) write_ms: f64,
}

/// All results of a run.
pub(crate) struct Report<'a> {
    pub(crate) input: &'a Path,
    pub(crate) output: &'a Path,
    pub(crate) job: &'a Job,
    pub(crate) adapter: String,
    pub(crate) results: Results,
    pub(crate) timing: Timing,
}

/// Mean and standard deviation of x and of y in one step.
struct StepSpreads {
    /// Name of x.
    name: String,
    shape: Vec<usize>,
    /// Means and standard deviations per channel.
    channels: Vec<[f64; 4]>,
    /// Means and standard deviations over all values.
    all: [f64; 4],
}

/// Running statistics before the first step and after the last.
struct Running<'a> {
    mean: (&'a Array1<f32>, &'a Array1<f64>),
    var: (&'a Array1<f32>, &'a Array1<f64>),
    num_batches_tracked: (u64, u64),
}

impl Running<'_> {
    /// Returns whether the mean or the variance of a channel changed.
    fn statistics_moved(&self) -> bool {
        let moved = |(before, after): (&Array1<f32>, &Array1<f64>)| {
            before.iter().zip(after).any(|(&before, after)| f64::from(before).to_bits() != after.to_bits())
        };
        moved(self.mean) || moved(self.var)
    }

    fn count_moved(&self) -> bool {
        self.num_batches_tracked.0 != self.num_batches_tracked.1
    }

    /// Writes a table of what changed.
    fn write(&self, text: &mut String) {
        if self.statistics_moved() {
            text.push('\n');
            row(text, "channel", ["running_mean", "→ after", "running_var", "→ after"]);
            let channels = self.mean.0.len();
            for c in 0..channels.min(ROWS) {
                let pair = |(before, after): (&Array1<f32>, &Array1<f64>)| {
                    [number(f64::from(before[c])), format!("→ {}", number(after[c]))]
                };
                let ([mean, mean_after], [var, var_after]) = (pair(self.mean), pair(self.var));
                row(text, &c.to_string(), [mean, mean_after, var, var_after]);
            }
            more(text, channels);
        }
        if self.count_moved() {
            let (before, after) = self.num_batches_tracked;
            let _ = writeln!(text, "num_batches_tracked {before} → {after}");
        }
    }
}

impl Report<'_> {
    fn running(&self) -> Option<Running<'_>> {
        let (before, after) = (&self.job.state, self.results.steps.last()?);
        Some(Running {
            mean: (before.running_mean.as_ref()?, after.vectors.get("running_mean")?),
            var: (before.running_var.as_ref()?, after.vectors.get("running_var")?),
            num_batches_tracked: (before.num_batches_tracked?, after.num_batches_tracked?),
        })
    }

    fn steps(&self) -> Vec<StepSpreads> {
        let (xs, steps) = (&self.job.batches.xs, &self.results.steps);
        let steps = xs.iter().zip(steps).zip(&self.job.suffixes).map(|((x, step), suffix)| {
            let numbers = |[x, y]: [Spread; 2]| [x.mean, x.std, y.mean, y.std];
            let of = |which: usize| Spread::over(step.spreads.iter().map(|spreads| spreads[which]));
            StepSpreads {
                name: format!("x{suffix}"),
                shape: x.shape.clone(),
                channels: step.spreads.iter().copied().map(numbers).collect(),
                all: numbers([of(0), of(1)]),
            }
        });
        steps.collect()
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let options = self.job.settings.pairs().map(|(key, value)| format!("{key} {value}")).join(", ");
        let _ = writeln!(text, "{}\n{options}, dtype {}", self.adapter, self.job.case.dtype);
        for StepSpreads { name, shape, channels, all } in self.steps() {
            let _ = writeln!(text, "\n{name} {shape:?}");
            row(&mut text, "channel", ["x mean", "x std", "y mean", "y std"]);
            for (c, spreads) in channels.iter().enumerate().take(ROWS) {
                row(&mut text, &c.to_string(), spreads.map(number));
            }
            more(&mut text, channels.len());
            row(&mut text, "all", all.map(number));
        }
        if let Some(running) = self.running() {
            running.write(&mut text);
        }
        let _ = writeln!(text, "\n{}", verdict(&self.results.check, self.job.case.dtype));
        let Timing { read_ms, compute_ms, check_ms, write_ms } = self.timing;
        let _ = writeln!(
            text,
            "read in {read_ms:.1} ms, computed in {compute_ms:.1} ms, checked in {check_ms:.1} ms, \
             written in {write_ms:.1} ms"
        );
        let although = if self.results.check.passed() { "" } else { ", although the check failed" };
        let _ = writeln!(text, "written to {}{although}", self.output.display());
        text
    }

    pub(crate) fn json(&self) -> Value {
        let steps = self.steps().into_iter().map(|StepSpreads { name, shape, channels, all }| {
            let spreads = |[x_mean, x_std, y_mean, y_std]: [f64; 4]| {
                json!({ "x_mean": x_mean, "x_std": x_std, "y_mean": y_mean, "y_std": y_std })
            };
            let channels: Vec<Value> = channels.into_iter().map(spreads).collect();
            json!({ "name": name, "shape": shape, "channels": channels, "all": spreads(all) })
        });
        let steps: Vec<Value> = steps.collect();
        let running = self.running().map(|running| {
            let of = |(before, after): (&Array1<f32>, &Array1<f64>)| {
                json!({ "before": before.to_vec(), "after": after.to_vec() })
            };
            let (before, after) = running.num_batches_tracked;
            json!({
                "moved": running.statistics_moved() || running.count_moved(),
                "running_mean": of(running.mean),
                "running_var": of(running.var),
                "num_batches_tracked": { "before": before, "after": after },
            })
        });
        let settings = &self.job.settings;
        json!({
            "input": self.input.to_string_lossy(),
            "output": self.output.to_string_lossy(),
            "adapter": self.adapter,
            "mode": settings.pairs()[0].1,
            "eps": settings.eps,
            "momentum": settings.momentum,
            "affine": settings.affine(),
            "weight": settings.weight,
            "bias": settings.bias,
            "track_running_stats": settings.track_running_stats,
            "layout": settings.layout.to_string(),
            "activation": settings.activation.to_string(),
            "dtype": self.job.case.dtype.to_string(),
            "left_alone": self.job.others,
            "steps": steps,
            "running": running,
            "check": check_json(&self.results.check),
            "timing_ms": {
                "read": self.timing.read_ms,
                "compute": self.timing.compute_ms,
                "check": self.timing.check_ms,
                "write": self.timing.write_ms,
            },
        })
    }
}

/// Returns the worst error of each quantity with the verdict, then a line for each mismatch.
fn verdict(check: &CheckReport, dtype: DType) -> String {
    let passed = if check.passed() { "PASS" } else { "FAIL" };
    let unit = match dtype {
        DType::F32 => String::new(),
        dtype => format!(" beyond a unit in the last place of {dtype}"),
    };
    let mut text = format!(
        "error against the CPU reference: {}: {passed} (tolerance {TOLERANCE:e}{unit})",
        errors(&check.errors)
    );
    for mismatch in &check.mismatches {
        let _ = write!(text, "\n  {mismatch}");
    }
    text
}

/// Formats errors, such as `y 1.2e-7, batch_mean 3.0e-8 …`
pub(crate) fn errors(errors: &[(&'static str, f64)]) -> String {
    errors.iter().map(|(quantity, error)| format!("{quantity} {error:.1e}")).collect::<Vec<_>>().join(", ")
}

/// Returns a check as JSON. An infinite error, such as that of a wrong shape, is null.
pub(crate) fn check_json(check: &CheckReport) -> Value {
    let errors: Map<String, Value> =
        check.errors.iter().map(|(quantity, error)| ((*quantity).to_owned(), json!(error))).collect();
    let mismatches: Vec<String> = check.mismatches.iter().map(ToString::to_string).collect();
    json!({
        "passed": check.passed(),
        "tolerance": TOLERANCE,
        "errors": errors,
        "mismatches": mismatches,
    })
}

fn row<T: Display>(text: &mut String, name: &str, columns: [T; 4]) {
    let [a, b, c, d] = columns;
    let _ = writeln!(text, "{name:>7} {a:>13} {b:>13} {c:>13} {d:>13}");
}

fn more(text: &mut String, channels: usize) {
    if channels > ROWS {
        let _ = writeln!(text, "      … {} more of {channels} channels", channels - ROWS);
    }
}

/// Formats a number with six digits, with an exponent if it would be long otherwise.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !value.is_finite() {
        value.to_string()
    } else if (1e-3..1e6).contains(&magnitude) {
        let decimals = (5 - magnitude.log10().floor() as i32).clamp(0, 8) as usize;
        format!("{value:.decimals$}")
    } else {
        format!("{value:.5e}")
    }
}

#[cfg(test)]
mod tests {
    use super::{more, number};

    #[test]
    fn numbers_have_six_digits() {
        let numbers = [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1.00000"),
            (-123.456_789, "-123.457"),
            (999_999.4, "999999"),
            (0.001_234_567_8, "0.00123457"),
            (1e-9, "1.00000e-9"),
            (-2.5e7, "-2.50000e7"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in numbers {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn only_what_is_not_listed_is_counted() {
        let mut text = String::new();
        more(&mut text, 16);
        assert_eq!(text, "");
        more(&mut text, 257);
        assert_eq!(text.trim(), "… 241 more of 257 channels");
    }
}
