//! `bench --tune`: finds and keeps the fastest plan of each pass.

use super::pass::PlannedPass;
use crate::bench::sets::Shape;
use crate::error::Result;
use crate::terminal::Progress;
use std::io::Write;
use std::path::Path;
use wgpu_batchnorm::internals::Pass;
use wgpu_batchnorm::{Direction, Gpu, Tuned};

/// Tunes every pass on every shape, makes the GPU plan by the result, and writes it to the file if one is given.
pub(crate) fn tune(
    gpu: &Gpu,
    shapes: &[Shape],
    passes: &[Pass],
    file: Option<&Path>,
    out: &mut impl Write,
) -> Result<()> {
    let mut tunings = (*gpu.tunings()).clone();
    // Fails before the work, not after it, if a plan is impossible.
    for shape in shapes {
        for &pass in passes {
            PlannedPass::new(shape, pass, gpu.profile(), &tunings)?;
        }
    }
    let progress = Progress::logged();
    writeln!(out, "tuning: ms by the heuristic's plan and by the fastest, and their ratio\n")?;
    for (k, shape) in shapes.iter().enumerate() {
        let config = shape.config();
        // The pass `forward_backward` consists of two others.
        let mut done = Vec::new();
        for (pass, &direction) in
            passes.iter().flat_map(|pass| pass.directions().iter().map(move |d| (pass, d)))
        {
            let training = pass.is_training();
            if done.contains(&(training, direction)) {
                continue;
            }
            done.push((training, direction));
            let name = name(training, direction);
            progress.show(&format!("{}/{} {shape}: tuning {name}", k + 1, shapes.len()));
            let problem = config.problem(&shape.sizes, shape.layout, training.into())?;
            let tuned = tunings.tune(gpu, &problem, &config, training.into(), direction)?;
            progress.clear();
            writeln!(out, "{}", line(shape, name, &tuned))?;
        }
        // Keeps what was found so far, in case the rest fails.
        gpu.set_tunings(tunings.clone())?;
        if let Some(file) = file {
            tunings.save(file)?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn name(training: bool, direction: Direction) -> &'static str {
    match (direction, training) {
        (Direction::Forward, true) => Pass::ForwardTrain.name(),
        (Direction::Forward, false) => Pass::ForwardEval.name(),
        (Direction::Backward, _) => Pass::Backward.name(),
    }
}

fn line(shape: &Shape, name: &str, tuned: &Tuned) -> String {
    let Tuned { tuning, milliseconds, heuristic, heuristic_milliseconds } = tuned;
    let winner = if tuning == heuristic { "the heuristic's".to_owned() } else { tuning.to_string() };
    format!(
        "{shape} {name}: {heuristic_milliseconds:.3} → {milliseconds:.3} ({:.2})\n    {winner}",
        milliseconds / heuristic_milliseconds
    )
}

#[cfg(test)]
mod tests {
    use super::{Tuned, line};
    use crate::bench::sets::Shape;
    use wgpu_batchnorm::plan::VectorWidth;
    use wgpu_batchnorm::wgpu::{AdapterInfo, Backend, DeviceType, Features, Limits};
    use wgpu_batchnorm::{AdapterProfile, Layout, Problem, Result, Tuning};

    #[test]
    fn the_line_has_both_times_and_the_winner() -> Result<()> {
        let shape = Shape::new(vec![8, 64, 7], Layout::ChannelsLast);
        let problem = Problem::new(&shape.sizes, shape.layout)?;
        let info = AdapterInfo::new(DeviceType::DiscreteGpu, Backend::Vulkan);
        let profile = AdapterProfile::new(&info, Features::empty(), Limits::default());
        let mut heuristic = Tuning::new(&problem, VectorWidth::Four, &profile);
        heuristic.splits = 4_000_000_000;
        let mut tuning = heuristic;
        tuning.splits = 16;
        let tuned = Tuned { tuning, milliseconds: 1.5, heuristic, heuristic_milliseconds: 2.0 };
        let text = line(&shape, "backward", &tuned);
        assert!(text.starts_with("8×64×7 channels-last backward: 2.000 → 1.500 (0.75)\n"), "{text}");
        assert!(text.contains(" 16 splits"), "{text}");
        let text = line(&shape, "backward", &Tuned { tuning: heuristic, ..tuned });
        assert!(text.ends_with("the heuristic's"), "{text}");
        assert!(
            line(&shape, "x", &Tuned { tuning: heuristic, ..tuned }).lines().all(|line| line.len() <= 120)
        );
        Ok(())
    }
}
