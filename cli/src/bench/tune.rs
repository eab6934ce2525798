//! `bench --tune`: the fastest plan of each pass, found and kept.

use super::pass::{Pass, PlannedPass};
use super::sets::Shape;
use crate::error::Result;
use crate::terminal::Progress;
use std::io::Write;
use std::path::Path;
use wgpu_batchnorm::{Direction, Gpu, Tuned};

/// Tunes every pass on every shape, makes the GPU plan by that, and writes it to the file, if there is one.
pub(super) fn tune(
    gpu: &Gpu,
    shapes: &[Shape],
    passes: &[Pass],
    file: Option<&Path>,
    out: &mut impl Write,
) -> Result<()> {
    let mut tunings = (*gpu.tunings()).clone();
    // Rather now than after the work: what cannot be planned.
    for shape in shapes {
        for &pass in passes {
            PlannedPass::new(shape, pass, gpu.profile(), &tunings)?;
        }
    }
    let progress = Progress::new();
    writeln!(out, "tuning: ms by the heuristic's plan and by the fastest, and their ratio\n")?;
    for (k, shape) in shapes.iter().enumerate() {
        let config = shape.config();
        // The whole step is made of the two others.
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
            let problem = config.problem(&shape.sizes, shape.layout, training)?;
            let tuned = tunings.tune(gpu, &problem, &config, training, direction)?;
            progress.clear();
            writeln!(out, "{}", line(shape, name, &tuned))?;
        }
        // What was found until then is not lost if the rest fails.
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
    use super::super::sets::Shape;
    use super::{Tuned, line};
    use wgpu_batchnorm::{Layout, Tuning};

    #[test]
    fn the_line_has_both_times_and_the_winner() {
        let shape = Shape::new(vec![8, 64, 7], Layout::ChannelsLast);
        let heuristic = Tuning {
            workgroup_size: 256,
            lanes_per_plane: 128,
            splits: 4_000_000_000,
            one_dispatch: false,
            groups: 1,
            held: 0,
            loads: 512,
            loads_down: 512,
            abreast: 8,
        };
        let tuning = Tuning { splits: 16, ..heuristic };
        let tuned = Tuned { tuning, milliseconds: 1.5, heuristic, heuristic_milliseconds: 2.0 };
        let text = line(&shape, "backward", &tuned);
        assert!(text.starts_with("8×64×7 channels-last backward: 2.000 → 1.500 (0.75)\n"), "{text}");
        assert!(text.contains(" 16 splits"), "{text}");
        let text = line(&shape, "backward", &Tuned { tuning: heuristic, ..tuned });
        assert!(text.ends_with("the heuristic's"), "{text}");
        assert!(
            line(&shape, "x", &Tuned { tuning: heuristic, ..tuned }).lines().all(|line| line.len() <= 120)
        );
    }
}
