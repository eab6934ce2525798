//! `run`: passes a file's batches through a layer, and writes the results to another file.

use crate::Outcome;
use crate::adapter::{Common, Computer};
use crate::batch::Batch;
use crate::blocks::{axis, blocks, case_of, state_of};
use crate::error::{Error, Result};
use crate::file::{self, Draft, store};
use crate::histogram::{self, histograms};
use crate::input::Job;
use crate::long::Long;
use crate::report::{Format, Report, Timing};
use crate::results::{Results, StepResults, as_stored, check_copy_room, check_room};
use crate::settings::{Overrides, stored_type};
use crate::terminal::{self, Progress};
use safetensors::Dtype;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;
use wgpu_batchnorm::internals::shortened;
use wgpu_batchnorm::ndarray::Array1;
use wgpu_batchnorm::verify::{Implementation, Outputs, Reference, judge};
use wgpu_batchnorm::{Checkpoint, DType};

/// Normalise the batches of a safetensors file, and check the result against the CPU reference
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File with x, or x.0, x.1 … for several steps
    #[arg(value_name = "IN.safetensors")]
    input: PathBuf,
    /// File to write; one that is there is replaced, unless it is the input
    #[arg(long, short, value_name = "OUT.safetensors")]
    output: PathBuf,
    /// Allow the output to be the input, which is lost
    #[arg(long)]
    overwrite_input: bool,
    /// Draw the distribution of each channel's values, before and after (the first eight channels)
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    format: Format,
}

pub(crate) const FILES: &str = "\
Input:
  x, or x.0, x.1 …             the batch, or those of successive steps: f32, f16 or bf16, rank 2 to 5
  dy, or dy.0, dy.1 …          gradients with respect to the outputs; then backward is computed, too
  residual, or residual.0 …    added to the normalised batches, before the activation
  weight, bias                 [C], f32, f16, bf16 or f64; a new layer's (1 and 0) where absent
  running_mean, running_var    [C], f32, f16, bf16 or f64; a new layer's (0 and 1) where absent
  num_batches_tracked          [] or [1], an integer of any type, or a whole float; 0 where absent
  metadata (strings)           mode, eps, momentum, affine, weight, bias, track_running_stats, layout,
                               activation; affine = false is neither weight nor bias
  Other tensors are left alone. Parameters and statistics are computed in f32, and written so.

Output, with the ends .0, .1 … that x has:
  y, batch_mean, batch_var     the result, in the type of x, and the batch statistics it was normalised with
  dx, dresidual, dweight, dbias
                               the gradients, where there is a dy; dresidual where there is a residual
  running_mean, running_var, num_batches_tracked
                               after the step; without an end, after the last

Channels are computed and checked in blocks, and large channels in pieces, so that large files take little
memory. A GPU computes a large channel whole.

Exit codes: 0 right, 1 too far from the CPU reference (but written), 2 bad input or usage, or no adapter
(nothing is written), or standard output cannot be written (the message says what was), 130 or 143
interrupted (nothing is left behind)";

pub(crate) fn run(args: &Args, common: &Common, out: &mut impl Write) -> Result<Outcome> {
    if !args.overwrite_input {
        file::check_distinct(&args.input, &args.output)?;
    }
    let progress = Progress::new();
    progress.show(&format!("reading {}", args.input.display()));
    let started = Instant::now();
    let contents = Checkpoint::read(&args.input)?;
    let mut job = Job::new(contents, &args.overrides).map_err(|fault| fault.in_file(&args.input))?;
    // Fails before the work, not after it, if the file cannot be written.
    file::check_target(&args.output)?;
    if let Some(plot) = &args.plot {
        for other in [&args.input, &args.output] {
            if plot == other {
                return Err(Error::FigureIsData { path: plot.clone() });
            }
            file::check_distinct(other, plot).map_err(|_| Error::FigureIsData { path: plot.clone() })?;
        }
        file::check_target(plot)?;
    }
    let read_ms = milliseconds(started);
    progress.clear();
    if !job.others.is_empty() {
        terminal::note(&format!("note: left alone: {}", shortened(&job.others)));
    }
    let device = common.device(false)?;
    execute(args, &mut job, &device, (read_ms, BLOCK), &progress, out)
}

/// Elements of a block. A channel that has more is computed in pieces.
const BLOCK: usize = 1 << 19;

/// Computes, checks, writes the file and reports. `elements` is the size of a block of channels.
fn execute(
    args: &Args,
    job: &mut Job,
    device: &dyn Computer,
    (read_ms, elements): (f64, usize),
    progress: &Progress,
    out: &mut impl Write,
) -> Result<Outcome> {
    let adapter = device.name();
    let mut timing = Timing { read_ms, ..Timing::default() };
    let mut results = Results::new(job);
    let channels = job.case.config.num_features;
    let of_channel = job.batches.xs.iter().map(Batch::len).sum::<usize>() / channels;
    // y takes the place of x.
    let before = args.plot.as_ref().map(|_| histograms(&job.batches.xs, channels));
    let failed = |source| Error::Compute {
        path: args.input.clone(),
        adapter: adapter.clone(),
        source: Box::new(source),
    };
    for block in blocks(channels, of_channel, elements) {
        let of = format!("channels {} to {} of {channels}", block.start + 1, block.end);
        progress.show(&format!("computing {of} on {adapter}"));
        if of_channel > elements {
            let (case, state) = (case_of(&job.case, &block), state_of(&job.state, &block));
            // What is computed of a piece fits into the cache of a processor, which saves time.
            let piece = elements.div_ceil(32);
            let long = Long { device, case, state, whole: block.clone(), channels, piece };
            let started = Instant::now();
            let by_device = long.by_device(&job.batches, block.start, failed)?;
            timing.compute_ms += milliseconds(started);
            progress.show(&format!("checking {of} against the CPU reference"));
            let by_device = by_device.as_deref();
            if job.batches.values_lie_apart() {
                // They are read several times: a copy of them saves time.
                check_copy_room(job.batches.bytes_of_channel())?;
                let mut copy = job.batches.channel(block.start, axis(&job.case));
                long.check(&mut copy, 0, &mut results, &mut timing, by_device)?;
                job.batches.put_channel(block.start, &copy);
            } else {
                long.check(&mut job.batches, block.start, &mut results, &mut timing, by_device)?;
            }
            continue;
        }
        check_room(block.len() * of_channel, !job.batches.dys.is_empty())?;
        let (case, inputs) = job.part(&block);
        let started = Instant::now();
        let steps = device.run(&case, &inputs).map_err(failed)?.steps.into_iter();
        let outputs = Outputs { steps: steps.map(|step| as_stored(step, case.dtype)).collect() };
        timing.compute_ms += milliseconds(started);

        progress.show(&format!("checking {of} against the CPU reference"));
        let started = Instant::now();
        results.note(judge(&case, &outputs, &Reference.run(&case, &inputs)?), &block);
        timing.check_ms += milliseconds(started);
        results.put(job, &inputs, &outputs, &block);
    }

    let figure =
        before.map(|before| histogram::svg(&before, &histograms(&job.batches.xs, channels), channels));
    progress.show(&format!("writing {}", args.output.display()));
    let started = Instant::now();
    draft(job, &results, &adapter).write(&args.output)?;
    if let (Some(path), Some(svg)) = (&args.plot, figure) {
        file::write(path, |file| file.write_all(svg.map_err(io::Error::other)?.as_bytes()))?;
    }
    timing.write_ms = milliseconds(started);
    progress.clear();

    let report = Report { input: &args.input, output: &args.output, job, adapter, results, timing };
    let text = if args.format.json { format!("{:#}\n", report.json()) } else { report.text() };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Outcome::new(report.results.check.passed()))
}

pub(crate) fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

/// Returns the file to write, which takes the tensors of the results.
fn draft(job: &mut Job, results: &Results, adapter: &str) -> Draft {
    let mut draft = Draft::default();
    let dtype = job.case.dtype;
    job.settings.describe(dtype, &mut draft);
    draft.metadata("adapter", adapter);
    for (k, step) in results.steps.iter().enumerate() {
        let suffix = job.suffixes[k].clone();
        for name in ["y", "dx", "dresidual"] {
            if let Some(result) = job.batches.place(name, k) {
                let data = result.take();
                draft.tensor(format!("{name}{suffix}"), stored_type(dtype), &result.shape, data);
            }
        }
        step.vectors.iter().for_each(|(name, vector)| add(&mut draft, format!("{name}{suffix}"), vector));
        add_count(&mut draft, step, &suffix);
    }
    if let Some(last) = results.steps.last() {
        for name in ["running_mean", "running_var"] {
            if let Some(vector) = last.vectors.get(name) {
                add(&mut draft, name.to_owned(), vector);
            }
        }
        add_count(&mut draft, last, "");
    }
    draft
}

fn add(draft: &mut Draft, name: String, vector: &Array1<f64>) {
    let mut data = Vec::new();
    store(&mut data, DType::F32, vector.iter().copied());
    draft.tensor(name, Dtype::F32, vector.shape(), data);
}

fn add_count(draft: &mut Draft, step: &StepResults, suffix: &str) {
    if let Some(count) = step.num_batches_tracked {
        // `input` checks that the count leaves room for every step.
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        draft.tensor(format!("num_batches_tracked{suffix}"), Dtype::I64, &[], count.to_le_bytes().to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::{Args, execute};
    use crate::Outcome;
    use crate::adapter::Computer;
    use crate::file::{Draft, store};
    use crate::input::Job;
    use crate::report::Format;
    use crate::settings::Overrides;
    use crate::terminal::Progress;
    use safetensors::Dtype;
    use wgpu_batchnorm::verify::{Case, Implementation, Inputs, Outputs, Reference};
    use wgpu_batchnorm::{Checkpoint, DType};

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

    impl Computer for Reference {
        fn is_reference(&self) -> bool {
            true
        }
    }

    impl Computer for Wrong {
        fn is_reference(&self) -> bool {
            false
        }
    }

    /// Computes two steps of two channels on a device, in blocks of so many elements.
    fn outcome(
        device: &dyn Computer,
        json: bool,
        elements: usize,
    ) -> Result<(Outcome, String, Vec<u8>), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        let mut draft = Draft::default();
        for k in 0..2 {
            for (name, values) in
                [("x", [1.0, 2.0, 3.0, 5.0]), ("dy", [-1.0, 7.0, 0.5, 2.0]), ("residual", [4.0; 4])]
            {
                let mut data = Vec::new();
                store(&mut data, DType::F32, values.into_iter().chain(values.map(|value| value * 1.7)));
                draft.tensor(format!("{name}.{k}"), Dtype::F32, &[2, 2, 2], data);
            }
        }
        draft.write(&input)?;
        let mut job = Job::new(Checkpoint::read(&input)?, &Overrides::default())?;
        let (overrides, format) = (Overrides::default(), Format { json });
        let args = Args { input, output, overwrite_input: false, plot: None, overrides, format };
        let mut text = Vec::new();
        let outcome = execute(&args, &mut job, device, (0.0, elements), &Progress::new(), &mut text)?;
        assert!(Checkpoint::read(&args.output)?.names().any(|name| name == "y.1"));
        let bytes = std::fs::read(&args.output)?;
        Ok((outcome, String::from_utf8(text)?.replace(&*args.output.to_string_lossy(), "OUT"), bytes))
    }

    #[test]
    fn blocks_give_the_file_of_the_whole() -> Result<(), Box<dyn std::error::Error>> {
        // The time differs, and the error, which is relative to the largest value of a block.
        let lines = |text: &str| -> Vec<String> {
            let same = |line: &&str| !line.starts_with("read in") && !line.starts_with("error against");
            text.lines().filter(same).map(str::to_owned).collect()
        };
        let (_, text, bytes) = outcome(&Reference, false, 1000)?;
        let (right, of_blocks, bytes_of_blocks) = outcome(&Reference, false, 1)?;
        assert_eq!((right, lines(&of_blocks)), (Outcome::Right, lines(&text)));
        assert!(bytes == bytes_of_blocks);
        Ok(())
    }

    #[test]
    fn a_wrong_result_is_written_and_fails() -> Result<(), Box<dyn std::error::Error>> {
        let (right, text, _) = outcome(&Wrong(0.0), false, 1000)?;
        assert_eq!(right, Outcome::Right);
        assert!(text.contains("PASS") && !text.contains("FAIL"), "{text}");
        // A block has one channel, and the device is wrong in each: the mismatch is in one of them.
        for (error, elements) in
            [1e-5, f64::NAN, f64::INFINITY].map(|error| [(error, 1000), (error, 1)]).concat()
        {
            let (wrong, text, _) = outcome(&Wrong(error), false, elements)?;
            assert_eq!(wrong, Outcome::CheckFailed);
            assert!(text.contains("FAIL") && !text.contains("PASS"), "{text}");
            assert!(text.contains("although the check failed"), "{text}");
            assert_eq!(text.matches("y.1[1, ").count(), 1, "{text}");

            let (wrong, text, _) = outcome(&Wrong(error), true, elements)?;
            let report: serde_json::Value = serde_json::from_str(&text)?;
            assert_eq!((wrong, &report["check"]["passed"]), (Outcome::CheckFailed, &false.into()));
        }
        Ok(())
    }
}
