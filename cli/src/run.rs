//! `run`: passes a file's batches through a layer, and writes the results to another file.

use crate::Outcome;
use crate::adapter::Common;
use crate::error::{Error, Result};
use crate::file::{self, Draft, Values};
use crate::input::Job;
use crate::report::{Format, Report, Timing};
use crate::settings::Overrides;
use crate::terminal::{self, Progress};
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;
use wgpu_batchnorm::internals::shortened;
use wgpu_batchnorm::ndarray::{Array1, ArrayD};
use wgpu_batchnorm::verify::{Implementation, Outputs, Reference, Step, StepGradients, judge};
use wgpu_batchnorm::{Checkpoint, DType};

/// Normalise the batches of a safetensors file, and check the result against the CPU reference
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File with x, or x.0, x.1 … for several steps
    #[arg(value_name = "IN.safetensors")]
    input: PathBuf,
    /// File to write; one that is there is replaced
    #[arg(long, short, value_name = "OUT.safetensors")]
    output: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    format: Format,
}

pub(crate) const FILES: &str = "\
Input:
  x, or x.0, x.1 …             the batch, or those of successive steps: f32, f16 or bf16, rank 2 to 5
  dy, or dy.0, dy.1 …          gradients with respect to the outputs; then backward is computed, too
  z, or z.0, z.1 …             added to the normalised batches, before the activation
  weight, bias                 [C], f32, f16, bf16 or f64; a new layer's (1 and 0) where absent
  running_mean, running_var    [C], f32, f16, bf16 or f64; a new layer's (0 and 1) where absent
  num_batches_tracked          [] or [1], an integer of any type, or a whole float; 0 where absent
  metadata (strings)           mode, eps, momentum, affine, weight, bias, track_running_stats, layout,
                               activation; affine = false is neither weight nor bias
  Other tensors are left alone. Parameters and statistics are computed in f32, and written so.

Output, with the ends .0, .1 … that x has:
  y, batch_mean, batch_var     the result, in the type of x, and the batch statistics it was normalised with
  dx, dz, dweight, dbias       the gradients, where there is a dy; dz where there is a z
  running_mean, running_var, num_batches_tracked
                               after the step; without an end, after the last

Exit codes: 0 right, 1 too far from the CPU reference (but written), 2 bad input or usage, or no adapter
(nothing is written)";

pub(crate) fn run(args: &Args, common: &Common, out: &mut impl Write) -> Result<Outcome> {
    let progress = Progress::new();
    progress.show(&format!("reading {}", args.input.display()));
    let started = Instant::now();
    let job = {
        let contents = Checkpoint::read(&args.input)?;
        Job::new(&contents, &args.overrides).map_err(|fault| fault.in_file(&args.input))?
    };
    // Fails before the work, not after it, if the file cannot be written.
    file::check_target(&args.output)?;
    let read_ms = milliseconds(started);
    progress.clear();
    if !job.others.is_empty() {
        terminal::note(&format!("note: left alone: {}", shortened(&job.others)));
    }
    let device = common.device(false)?;
    execute(args, &job, &device, read_ms, &progress, out)
}

/// Computes, checks, writes the file and reports.
fn execute(
    args: &Args,
    job: &Job,
    device: &dyn Implementation,
    read_ms: f64,
    progress: &Progress,
    out: &mut impl Write,
) -> Result<Outcome> {
    let adapter = device.name();
    progress.show(&format!("computing on {adapter}"));
    let started = Instant::now();
    let outputs = device.run(&job.case, &job.inputs).map_err(|source| Error::Compute {
        path: args.input.clone(),
        adapter: adapter.clone(),
        source: Box::new(source),
    })?;
    let outputs = as_stored(outputs, job.case.dtype);
    let compute_ms = milliseconds(started);

    progress.show("checking against the CPU reference");
    let started = Instant::now();
    let check = judge(&job.case, &outputs, &Reference.run(&job.case, &job.inputs)?);
    let check_ms = milliseconds(started);

    progress.show(&format!("writing {}", args.output.display()));
    let started = Instant::now();
    draft(job, &outputs, &adapter).write(&args.output)?;
    let timing = Timing { read_ms, compute_ms, check_ms, write_ms: milliseconds(started) };
    progress.clear();

    let report = Report { input: &args.input, output: &args.output, job, adapter, outputs, check, timing };
    let text = if args.format.json { format!("{:#}\n", report.json()) } else { report.text() };
    out.write_all(text.as_bytes())?;
    Ok(Outcome::new(report.check.passed()))
}

fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

/// Rounds the outputs as the file stores them. They are checked and reported in this form.
fn as_stored(outputs: Outputs, dtype: DType) -> Outputs {
    let round = |value: f64| f64::from(value as f32);
    let tensor = |tensor: ArrayD<f64>| tensor.mapv_into(|value| dtype.round(value));
    let vector = |vector: Option<Array1<f64>>| vector.map(|vector| vector.mapv_into(round));
    let steps = outputs.steps.into_iter().map(|step| Step {
        y: tensor(step.y),
        batch_mean: vector(step.batch_mean),
        batch_var: vector(step.batch_var),
        running_mean: vector(step.running_mean),
        running_var: vector(step.running_var),
        num_batches_tracked: step.num_batches_tracked,
        gradients: step.gradients.map(|gradients| StepGradients {
            dx: tensor(gradients.dx),
            dweight: vector(gradients.dweight),
            dbias: vector(gradients.dbias),
            dz: gradients.dz.map(tensor),
            scales: gradients.scales,
        }),
    });
    Outputs { steps: steps.collect() }
}

/// Returns the file to write.
fn draft(job: &Job, outputs: &Outputs, adapter: &str) -> Draft {
    let mut draft = Draft::default();
    let dtype = job.case.dtype;
    job.settings.describe(dtype, &mut draft);
    draft.metadata("adapter", adapter);
    for (step, suffix) in outputs.steps.iter().zip(&job.suffixes) {
        add(&mut draft, format!("y{suffix}"), dtype, &step.y);
        for (name, vector) in [("batch_mean", &step.batch_mean), ("batch_var", &step.batch_var)] {
            if let Some(vector) = vector {
                add(&mut draft, format!("{name}{suffix}"), DType::F32, &vector.clone().into_dyn());
            }
        }
        if let Some(gradients) = &step.gradients {
            add(&mut draft, format!("dx{suffix}"), dtype, &gradients.dx);
            if let Some(dz) = &gradients.dz {
                add(&mut draft, format!("dz{suffix}"), dtype, dz);
            }
            for (name, vector) in [("dweight", &gradients.dweight), ("dbias", &gradients.dbias)] {
                if let Some(vector) = vector {
                    add(&mut draft, format!("{name}{suffix}"), DType::F32, &vector.clone().into_dyn());
                }
            }
        }
        add_running(&mut draft, step, suffix);
    }
    if let Some(last) = outputs.steps.last() {
        add_running(&mut draft, last, "");
    }
    draft
}

fn add_running(draft: &mut Draft, step: &Step, suffix: &str) {
    for (name, vector) in [("running_mean", &step.running_mean), ("running_var", &step.running_var)] {
        if let Some(vector) = vector {
            add(draft, format!("{name}{suffix}"), DType::F32, &vector.clone().into_dyn());
        }
    }
    if let Some(count) = step.num_batches_tracked {
        // `input` checks that the count leaves room for every step.
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        draft.tensor(format!("num_batches_tracked{suffix}"), &[], Values::I64(count));
    }
}

fn add(draft: &mut Draft, name: String, dtype: DType, values: &ArrayD<f64>) {
    draft.tensor(name, values.shape(), Values::new(dtype, values.iter().copied()));
}

#[cfg(test)]
mod tests {
    use super::{Args, execute};
    use crate::Outcome;
    use crate::file::{Draft, Values};
    use crate::input::Job;
    use crate::report::Format;
    use crate::settings::Overrides;
    use crate::terminal::Progress;
    use wgpu_batchnorm::Checkpoint;
    use wgpu_batchnorm::verify::{Case, Implementation, Inputs, Outputs, Reference};

    /// The reference with an error of this size in the last value of y of the last step.
    struct Wrong(f64);

    impl Implementation for Wrong {
        fn name(&self) -> String {
            "wrong".to_owned()
        }

        fn run(&self, case: &Case, inputs: &Inputs) -> wgpu_batchnorm::Result<Outputs> {
            let mut outputs = Reference.run(case, inputs)?;
            let last = outputs.steps.last_mut().and_then(|step| step.y.last_mut());
            *last.expect("there is a last value") += self.0;
            Ok(outputs)
        }
    }

    fn outcome(error: f64, json: bool) -> Result<(Outcome, String), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        let mut draft = Draft::default();
        for k in 0..2 {
            draft.tensor(format!("x.{k}"), &[2, 2], Values::F32(vec![1.0, 2.0, 3.0, 5.0]));
        }
        draft.write(&input)?;
        let job = Job::new(&Checkpoint::read(&input)?, &Overrides::default())?;
        let args = Args { input, output, overrides: Overrides::default(), format: Format { json } };
        let mut text = Vec::new();
        let outcome = execute(&args, &job, &Wrong(error), 0.0, &Progress::new(), &mut text)?;
        assert!(Checkpoint::read(&args.output)?.names().any(|name| name == "y.1"));
        Ok((outcome, String::from_utf8(text)?))
    }

    #[test]
    fn a_wrong_result_is_written_and_fails() -> Result<(), Box<dyn std::error::Error>> {
        let (right, text) = outcome(0.0, false)?;
        assert_eq!(right, Outcome::Right);
        assert!(text.contains("PASS") && !text.contains("FAIL"), "{text}");
        for error in [1e-5, f64::NAN, f64::INFINITY] {
            let (wrong, text) = outcome(error, false)?;
            assert_eq!(wrong, Outcome::CheckFailed);
            assert!(text.contains("FAIL") && !text.contains("PASS"), "{text}");
            assert!(text.contains("y.1[1, 1]") && text.contains("although the check failed"), "{text}");

            let (wrong, text) = outcome(error, true)?;
            let report: serde_json::Value = serde_json::from_str(&text)?;
            assert_eq!((wrong, &report["check"]["passed"]), (Outcome::CheckFailed, &false.into()));
        }
        Ok(())
    }
}
