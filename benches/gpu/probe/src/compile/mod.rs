//! Compiles the planned kernels with Mesa's compiler for AMD GPUs, which needs no such GPU, and checks what it makes of
//! them.

mod chip;
mod control;
mod figures;
mod known;
mod subject;

use crate::Result;
use crate::device::Device;
use crate::job::{Options, Planned};
use chip::Chip;
use figures::{Fault, Figures};
use known::reason;
use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use subject::{Subject, visits};
use wgpu_batchnorm::kernels::Kernel;
use wgpu_batchnorm::plan::Step;
use wgpu_batchnorm::wgpu::DeviceType;
use wgpu_batchnorm::{AdapterProfile, Error};

/// Fewer kernels are not all that the benchmarks plan.
const LEAST_KERNELS: usize = 300;

/// A planned kernel.
#[derive(Clone, Copy)]
struct Candidate {
    kernel: Kernel,
    /// Whether plans have it only for tensors that begin in the middle of a load.
    unaligned: bool,
    /// Whether some plan has more of its workgroups than there are processors.
    counts_on_two: bool,
}

/// Takes shapes. Prints a table of what the compiler makes of the kernels that are planned for these shapes.
///
/// # Errors
/// If anything is wrong with a kernel that is not in `known.rs`. Prints that to standard error.
pub(crate) fn run(profile: &AdapterProfile, args: &[String]) -> Result<()> {
    let chip = Chip::of(&profile.name)?;
    if profile.device_type != DeviceType::DiscreteGpu {
        return Err(format!("{} is no discrete GPU", profile.name).into());
    }
    let device = Device::new(&profile.name)?;
    control::check(&device, chip)?;
    let most = control::most_registers(&device, chip)?;
    let begin = Instant::now();
    let compiled = compile_all(&candidates(profile, &Options::parse(args)?)?, &device, chip)?;
    let seconds = begin.elapsed().as_secs();

    let (mut failed, mut known) = (0, BTreeMap::new());
    for (Candidate { kernel, counts_on_two, .. }, figures) in &compiled {
        let subject = Subject::new(kernel, *counts_on_two);
        let faults = figures.faults(&subject);
        // RDNA3 gives out registers by 12.
        let of_compiler = most.filter(|most| figures.spilled > 0 && figures.registers + 12 >= *most);
        let excuse = |fault: &Fault| match (of_compiler, fault) {
            (None, _) | (_, Fault::Slow(_)) => reason(chip, kernel, fault).map(str::to_owned),
            (Some(most), _) => Some(format!("this Mesa gives no shader more than {most} registers")),
        };
        let excuses: Vec<_> = faults.iter().map(excuse).collect();
        if excuses.contains(&None) {
            failed += 1;
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            eprintln!("{}: {}: {}", chip.architecture, subject.name, faults.join("; "));
        }
        for (excuse, fault) in excuses.into_iter().zip(&faults) {
            let Some(excuse) = excuse else { continue };
            let example = format!("`{}`, {}: {fault}", kernel.stem(), visits(kernel));
            known.entry(excuse).or_insert_with(|| (0, example)).0 += 1;
        }
    }

    println!("## {}: {}\n", chip.architecture, profile.name);
    let slowest = compiled.iter().map(|(_, figures)| figures.time).max().unwrap_or_default();
    println!(
        "{}. {} kernels in {seconds} s, none in more than {:.1} s. {}\n",
        profile.driver,
        compiled.len(),
        slowest.as_secs_f64(),
        if failed == 0 { "No new fault.".to_owned() } else { format!("**{failed} FAILED.**") },
    );
    for (reason, (count, example)) in known {
        println!("- {count} known faults, since {reason}; the first is of {example}.");
    }
    println!();
    print_table(&compiled, chip);
    match (compiled.len(), failed) {
        (0..LEAST_KERNELS, _) => Err(format!("only {} kernels", compiled.len()).into()),
        (_, 0) => Ok(()),
        _ => Err(format!("{failed} kernels failed").into()),
    }
}

/// Returns the kernels of all plans for the shapes, once those that are the same to a compiler.
fn candidates(profile: &AdapterProfile, options: &Options) -> Result<Vec<Candidate>> {
    let (mut aligned, mut all, mut many) = (Vec::new(), Vec::new(), HashSet::new());
    let mut add = |plan: Planned| match plan {
        Ok(plan) => {
            aligned.extend(plan.steps().iter().map(|step| step.kernel));
            let is_many = |step: &&Step| step.grid.iter().product::<u32>() > profile.hardware.processors;
            many.extend(plan.steps().iter().filter(is_many).map(|step| step.kernel.wgsl()));
            all.extend(plan.kernels());
            Ok(())
        }
        // This device refuses this shape.
        Err(Error::BindingTooLarge { .. } | Error::Limit { .. }) => Ok(()),
        Err(error) => Err(error),
    };
    options.plan_all(profile, &[false], &mut add)?;
    // Nobody tried how this driver converts to f16.
    let mut converting = profile.clone();
    converting.rounds_f16 = true;
    options.plan_all(&converting, &[false], &mut add)?;
    let of = |kernels: Vec<Kernel>, unaligned| {
        let many = &many;
        kernels.into_iter().map(move |kernel| Candidate {
            kernel,
            unaligned,
            counts_on_two: many.contains(&kernel.wgsl()),
        })
    };
    let (mut seen, mut texts) = (HashSet::new(), HashSet::new());
    let all = of(aligned, false).chain(of(all, true));
    let new = all.filter(|candidate| seen.insert(candidate.kernel));
    Ok(new.filter(|candidate| texts.insert(candidate.kernel.wgsl())).collect())
}

/// Compiles the kernels on all processors. Returns them in order.
fn compile_all(candidates: &[Candidate], device: &Device, chip: &Chip) -> Result<Vec<(Candidate, Figures)>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || -> std::result::Result<(), String> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(candidate) = candidates.get(at) else { return Ok(()) };
            let subject = Subject::new(&candidate.kernel, candidate.counts_on_two);
            let compiled = subject.compile(device, chip);
            let figures = compiled.map_err(|error| format!("{}: {error}", subject.name))?;
            done.lock().map_err(|error| error.to_string())?.push((at, figures));
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    let mut done = done.into_inner()?;
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(at, figures)| (candidates[at], figures)).collect())
}

/// Prints the worst of kernels that visit tensors in the same way.
fn print_table(compiled: &[(Candidate, Figures)], chip: &Chip) {
    let mut rows: BTreeMap<_, (usize, Figures)> = BTreeMap::new();
    for (Candidate { kernel, unaligned, .. }, figures) in compiled {
        let planned = Subject::new(kernel, false).kept.map(|kept| kept.loads);
        rows.entry((kernel.stem(), visits(kernel), kernel.workgroup_size(), *unaligned, planned))
            .and_modify(|(count, worst)| (*count, *worst) = (*count + 1, worst.worst(*figures)))
            .or_insert((1, *figures));
    }
    println!(
        "| kernel | variant | workgroup | kernels | registers | instructions | bytes | loads in flight | workgroups on a {} | s |",
        chip.processor
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for ((stem, visits, workgroup, unaligned, planned), (count, worst)) in rows {
        let mut words = vec![visits];
        words.retain(|word| !word.is_empty());
        words.extend(unaligned.then(|| "unaligned".to_owned()));
        let variant = words.join(", ");
        let of = planned.map(|planned| format!(" of {planned}")).unwrap_or_default();
        let spilled = if worst.spilled > 0 { format!(", {} spilled", worst.spilled) } else { String::new() };
        println!(
            "| `{stem}` | {variant} | {workgroup} | {count} | {}{spilled} | {} | {} | {}{of} | {} | {:.1} |",
            worst.registers,
            worst.instructions,
            worst.code_bytes,
            worst.loads,
            worst.workgroups,
            worst.time.as_secs_f64()
        );
    }
    println!();
}
