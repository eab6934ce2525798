//! `bench`: measures how fast the adapter normalises, relative to the rate of its memory.

mod folder;
mod measure;
mod report;
mod sets;

use crate::Outcome;
use crate::adapter::{Common, Device};
use crate::error::{Error, Result};
use crate::file;
use crate::settings;
use crate::terminal::{self, Progress};
use clap::ValueEnum;
use folder::Folder;
use measure::ceiling::Copies;
use measure::check::Exact;
use measure::limits::limits;
use measure::memory::{BoundPass, Memory, case, repeated};
use measure::pass::{PlannedPass, pass_parser};
use measure::timing::{Clock, PassTimes, Runs};
use measure::tune::tune;
use report::{Measurement, Report, plot};
use sets::{Set, Shape, Sizes, Variant};
use std::io::{self, Write};
use std::path::PathBuf;
use wgpu_batchnorm::internals::{Pass, cost, known_gpus};
use wgpu_batchnorm::{Activation, AdapterProfile, DType, Gpu, Layout, Problem, wgpu};

/// Time shapes on the adapter, each checked against the CPU reference before (but see --no-check)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shapes to time [default: peers, unless there is a --shape; all with --gpu-report]
    #[arg(long = "set", value_enum, value_name = "NAME")]
    sets: Vec<Set>,
    /// Another shape to time, as it lies in memory: 8,64,112,112
    #[arg(long = "shape", value_name = "N,…", value_parser = sets::sizes)]
    shapes: Vec<Sizes>,
    /// Where each --shape has its channels: channels-first [N, C, …] or channels-last [N, …, C]
    /// [default: channels-first]
    #[arg(long, requires = "shapes", value_parser = settings::layout)]
    layout: Option<Layout>,
    /// Element types to time, side by side: f32, f16, bf16 [default: f32]
    #[arg(long = "dtype", value_name = "TYPE", value_parser = settings::dtype)]
    dtypes: Vec<DType>,
    /// An activation behind the batch norm, fused and apart side by side: relu, leaky-relu=SLOPE, relu6, silu,
    /// sigmoid, tanh, gelu or gelu-tanh
    #[arg(long, value_name = "NAME", value_parser = settings::activation)]
    activation: Option<Activation>,
    /// Add a tensor before the activation, as at the end of a residual block
    #[arg(long, requires = "activation")]
    add: bool,
    /// Only list the shapes, each as the options that choose it
    #[arg(long)]
    list: bool,
    /// With --list: also print the plans of each shape on this GPU, which need not be here, and what a model says they
    /// take: h100, rtx-4090, rx-7900, arc-a770, m3-max or webgpu
    #[arg(long, value_name = "NAME", requires = "list", value_parser = known_gpu)]
    profile: Option<Box<AdapterProfile>>,
    /// Only these passes
    #[arg(long = "pass", value_parser = pass_parser(), value_name = "PASS")]
    passes: Vec<Pass>,
    /// Images in a batch of the set resnet50
    #[arg(long, default_value_t = 8, value_parser = count)]
    batch: usize,
    /// Timed runs of each
    #[arg(long, default_value_t = 20, value_parser = count)]
    runs: usize,
    /// Do not compare results with the CPU reference, which takes longer than all the rest for large shapes. Output
    /// and files say so, and exit code 0 then means only that everything ran
    #[arg(long)]
    no_check: bool,
    /// First measure which plan of each pass is fastest here, and use it; with --tunings FILE, add it to that
    /// file, for later runs. A file of another adapter, driver or version is replaced
    #[arg(long)]
    tune: bool,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write everything that tells how fast this adapter is to this folder, which must be new or empty: the adapters, a
    /// survey of its limits, the times and the plans. Times all sets unless some are chosen
    #[arg(long, value_name = "FOLDER")]
    gpu_report: Option<PathBuf>,
    /// Draw the figures: a panel for each pass, the fraction of the best copy against bytes
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Parses a count of at least one.
fn count(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("allowed is a whole number from 1 on".to_owned()),
        Ok(count) => Ok(count),
    }
}

impl Args {
    /// Returns the shapes to time, each once.
    fn shapes(&self) -> Result<Vec<Shape>> {
        let sets = match (self.sets.is_empty() && self.shapes.is_empty(), &self.gpu_report) {
            (true, None) => &[Set::Peers][..],
            (true, Some(_)) => Set::value_variants(),
            (false, _) => &self.sets,
        };
        let mut shapes: Vec<Shape> = sets.iter().flat_map(|set| set.shapes(self.batch)).collect();
        for sizes in &self.shapes {
            let shape = Shape::new(sizes.clone(), self.layout.unwrap_or(Layout::ChannelsFirst));
            Problem::new(&shape.sizes, shape.layout)?;
            shapes.push(shape);
        }
        Ok(sets::distinct(shapes))
    }

    /// Returns the variants to compute on each shape.
    fn variants(&self) -> Vec<Variant> {
        let mut dtypes = self.dtypes.clone();
        if dtypes.is_empty() {
            dtypes.push(DType::F32);
        }
        let activation = self.activation.unwrap_or_default();
        let apart: &[bool] = if activation == Activation::Identity { &[false] } else { &[false, true] };
        let of_type =
            |dtype| apart.iter().map(move |&apart| Variant { dtype, activation, add: self.add, apart });
        dtypes.into_iter().flat_map(of_type).collect()
    }

    fn passes(&self) -> &[Pass] {
        if self.passes.is_empty() { &Pass::ALL } else { &self.passes }
    }
}

/// Returns the profile of a GPU that need not be here.
fn known_gpu(name: &str) -> std::result::Result<Box<AdapterProfile>, String> {
    let gpus = known_gpus();
    let names: Vec<_> = gpus.iter().map(|(name, _)| *name).collect();
    let unknown = format!("it may be {}", names.join(", "));
    gpus.into_iter().find(|(known, _)| *known == name).map(|(_, profile)| Box::new(profile)).ok_or(unknown)
}

/// Prints the plans of a shape on a GPU that need not be here, and what the model says they take.
fn list_plans(shape: &Shape, args: &Args, profile: &AdapterProfile, out: &mut impl Write) -> Result<()> {
    let dtypes = if args.dtypes.is_empty() { &[DType::F32][..] } else { &args.dtypes };
    for &dtype in dtypes {
        for pass in args.passes().iter().filter(|pass| **pass != Pass::ForwardBackward) {
            let plans = match pass.plans(&shape.sizes, shape.layout, dtype, profile) {
                Ok(plans) => plans,
                Err(error) => {
                    writeln!(out, "{}, {dtype}: {error}", pass.name())?;
                    continue;
                }
            };
            for plan in plans {
                let cost = cost(&plan, profile);
                writeln!(
                    out,
                    "{}, {dtype}: {:.1} µs by the model, of which the floor is {:.1}; {:.0} % in flight at least",
                    pass.name(),
                    cost.seconds * 1e6,
                    plan.floor_bytes() as f64 / profile.hardware.bandwidth * 1e6,
                    cost.in_flight * 100.0
                )?;
                write!(out, "{plan}")?;
            }
        }
    }
    Ok(())
}

pub(crate) fn bench(args: &Args, common: &Common, out: &mut impl Write) -> Result<Outcome> {
    let shapes = args.shapes()?;
    if args.list {
        for shape in &shapes {
            writeln!(out, "{}", shape.options())?;
            if let Some(profile) = &args.profile {
                list_plans(shape, args, profile, out)?;
            }
        }
        return Ok(Outcome::Right);
    }
    let device = if args.tune { common.device_to_tune()? } else { common.device(false)? };
    let Device::Gpu(gpu) = device else { return Err(Error::BenchNeedsGpu) };
    // Fails before the work, not after it, if a file cannot be written or a plan is impossible.
    args.json.iter().chain(&args.plot).try_for_each(|path| file::check_target(path))?;
    let folder = args.gpu_report.as_deref().map(Folder::new).transpose()?;
    if let Some(note) = folder.as_ref().and_then(|_| folder::software(gpu.profile())) {
        terminal::note(&format!("note: {note}"));
    }
    if args.tune {
        tune(&gpu, &shapes, args.passes(), common.tunings.as_deref(), out)?;
    }
    let tunings = gpu.tunings();
    let variants = args.variants();
    let with_variants = |shape: Shape| {
        variants.iter().map(move |&variant| Shape { variant, ..shape.clone() }).collect::<Vec<_>>()
    };
    let jobs = shapes.into_iter().flat_map(with_variants).map(|shape| {
        let plan = |&pass| PlannedPass::new(&shape, pass, gpu.profile(), &tunings);
        let passes = args.passes().iter().map(plan).collect::<wgpu_batchnorm::Result<Vec<_>>>()?;
        Ok((shape, passes))
    });
    let jobs = jobs.collect::<Result<Vec<_>>>()?;

    let largest = jobs.iter().map(|(shape, _)| shape.tensor_bytes()).max().unwrap_or(0);
    let mut bench = Bench {
        gpu: &gpu,
        clock: Clock::new(&gpu),
        copies: Copies::new(&gpu, largest)?,
        runs: Runs { warmup: 3, timed: args.runs },
        checked: !args.no_check,
        folder: folder.as_ref(),
        cases: Vec::new(),
        failures: Vec::new(),
    };
    if let Some(folder) = &folder {
        folder.adapters(common, gpu.profile(), bench.checked)?;
    }
    let result = bench.run(&jobs);
    let report = bench.report();
    // Prints the report even after an early end, so that earlier measurements are not lost.
    out.write_all(report.text().as_bytes())?;
    result?;
    if let Some(path) = &args.json {
        file::write(path, |file| writeln!(file, "{:#}", report.json()))?;
    }
    if let Some(path) = &args.plot {
        file::write(path, |file| file.write_all(plot::svg(&report).map_err(io::Error::other)?.as_bytes()))?;
    }
    if let Some(folder) = &folder {
        folder.plot(&report)?;
        writeln!(out, "written to {}", folder.path().display())?;
    }
    Ok(Outcome::new(report.failures.is_empty()))
}

/// A benchmark under way.
struct Bench<'a> {
    gpu: &'a Gpu,
    clock: Clock<'a>,
    copies: Copies,
    runs: Runs,
    /// Whether results are compared with the CPU reference.
    checked: bool,
    /// The folder that everything goes to, too.
    folder: Option<&'a Folder>,
    cases: Vec<Measurement>,
    failures: Vec<String>,
}

impl Bench<'_> {
    fn run(&mut self, jobs: &[(Shape, Vec<PlannedPass>)]) -> Result<()> {
        let progress = Progress::logged();
        if let Some(folder) = self.folder {
            progress.show("surveying the adapter's limits");
            folder.limits(self.gpu.profile(), &limits(self.gpu, &self.clock)?)?;
        }
        progress.show("surveying plain copies");
        self.copies.survey(&self.clock)?;
        for (k, (shape, passes)) in jobs.iter().enumerate() {
            let variant = match shape.variant {
                variant if variant == Variant::default() => String::new(),
                variant => format!(" {variant}"),
            };
            let progress = |doing: &str| {
                progress.show(&format!("{}/{} {shape}{variant}: {doing}", k + 1, jobs.len()));
            };
            self.shape(shape, passes, progress)?;
            // Samples between the shapes and after the last, since the machine's rate may have changed.
            self.copies.sample(&self.clock)?;
            // Keeps what was found so far, in case the machine is taken away.
            if let Some(folder) = self.folder {
                folder.times(&self.report())?;
            }
        }
        Ok(())
    }

    fn report(&self) -> Report<'_> {
        Report {
            profile: self.gpu.profile(),
            ceilings: self.copies.ceilings(),
            checked: self.checked,
            cases: &self.cases,
            failures: &self.failures,
        }
    }

    /// Checks (unless that was declined) and times all passes on one shape.
    fn shape(&mut self, shape: &Shape, passes: &[PlannedPass], progress: impl Fn(&str)) -> Result<()> {
        let Some(first) = passes.first() else { return Ok(()) };
        progress("making data");
        let case = case(shape, first.pass);
        let mut inputs = if self.checked { case.inputs() } else { repeated(&case) };
        // Without gradients, the reference computes none.
        if !passes.iter().any(|planned| planned.pass.has_backward()) {
            inputs.dys.clear();
        }
        let memory = Memory::new(self.gpu, shape, passes, &inputs)?;
        let mut exact = Exact::new(shape, &inputs);
        for planned in passes {
            let name = planned.pass.name();
            let bound = memory.bind(self.gpu, planned)?;
            if self.checked {
                progress(&format!("checking {name}"));
                let report = exact.check(&self.clock, planned.pass, memory.first(), &bound[0])?;
                if !report.passed() {
                    self.failures.push(report.to_string());
                    continue;
                }
            }
            progress(&format!("timing {name}"));
            self.cases.push(self.time(shape, planned, &bound, memory.is_cached)?);
        }
        Ok(())
    }

    /// Times a pass on its sets of buffers in turn, alone and in a row.
    fn time(
        &self,
        shape: &Shape,
        planned: &PlannedPass,
        bound: &[BoundPass],
        is_cached: bool,
    ) -> Result<Measurement> {
        self.clock.submit(|encoder| {
            bound.iter().flat_map(|set| &set.before).for_each(|plan| plan.record(encoder));
        })?;
        let evict = |encoder: &mut _| self.copies.evict(encoder);
        let evict: Option<&dyn Fn(&mut _)> = if is_cached { Some(&evict) } else { None };
        // Warms up with every set of buffers, since wgpu clears each on its first use.
        let runs = Runs { warmup: bound.len().max(self.runs.warmup), ..self.runs };
        let record = |run: usize, pass: &mut wgpu::ComputePass<'_>| {
            bound[run % bound.len()].timed.iter().for_each(|plan| plan.record_in(pass));
        };
        let alone = self.clock.time(runs, evict, record)?;
        let back_to_back = self.clock.time_back_to_back(runs.timed, record)?;
        Ok(Measurement::new(shape, planned, &PassTimes { alone, back_to_back }, is_cached))
    }
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_begin_at_one() {
        assert_eq!((count("1"), count("250")), (Ok(1), Ok(250)));
        for wrong in ["0", "-1", "", "1.5", "many", "99999999999999999999999"] {
            assert!(count(wrong).is_err_and(|reason| reason.contains("from 1 on")), "{wrong}");
        }
    }
}
