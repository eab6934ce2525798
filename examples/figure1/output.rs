//! The figure in numbers: a table to read, and two files.

use super::shared::Result;
use super::training::{Evaluation, range, typical_unit};
use std::fmt::{self, Write};
use std::path::Path;

/// Both networks, evaluated after the same steps.
pub(crate) struct Figure {
    pub(crate) without: Vec<Evaluation>,
    pub(crate) with: Vec<Evaluation>,
}

/// The curves of one network.
pub(crate) struct Curves {
    /// (step, accuracy).
    pub(crate) accuracy: Vec<(usize, f64)>,
    /// (step, percentiles) of a typical unit.
    pub(crate) percentiles: Vec<(usize, [f32; 3])>,
}

/// Returns the curves that the figure shows.
pub(crate) fn curves(evaluations: &[Evaluation]) -> Curves {
    let unit = typical_unit(evaluations);
    Curves {
        accuracy: evaluations.iter().map(|evaluation| (evaluation.step, evaluation.accuracy)).collect(),
        percentiles: evaluations
            .iter()
            .map(|evaluation| (evaluation.step, evaluation.percentiles[unit]))
            .collect(),
    }
}

impl Figure {
    /// Writes `accuracy.csv` and `sigmoid_inputs.csv`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let mut accuracy = String::from("step,without,with\n");
        let mut inputs = String::from("step,without_15,without_50,without_85,with_15,with_50,with_85\n");
        let (without, with) = (curves(&self.without), curves(&self.with));
        for (&(step, a), (_, b)) in without.accuracy.iter().zip(with.accuracy) {
            writeln!(accuracy, "{step},{a},{b}")?;
        }
        for (&(step, [a, b, c]), (_, [d, e, f])) in without.percentiles.iter().zip(with.percentiles) {
            writeln!(inputs, "{step},{a},{b},{c},{d},{e},{f}")?;
        }
        let save = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
        };
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        save("accuracy.csv", &accuracy)?;
        save("sigmoid_inputs.csv", &inputs)?;
        Ok(())
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (without, with) = (curves(&self.without), curves(&self.with));
        writeln!(f)?;
        writeln!(f, "          test accuracy      into a typical last sigmoid: 15th, 50th, 85th percentile")?;
        writeln!(f, "  step   without    with      without batch norm      with batch norm")?;
        for (index, &(step, accuracy)) in without.accuracy.iter().enumerate() {
            // Print more rows at first, where most happens.
            if index >= 5 && (index + 1) % 5 != 0 {
                continue;
            }
            let percentiles = |[low, median, high]: [f32; 3]| format!("{low:6.2} {median:6.2} {high:6.2}");
            let (a, b) = (percentiles(without.percentiles[index].1), percentiles(with.percentiles[index].1));
            writeln!(f, "{step:6}    {accuracy:.3}    {:.3}     {a}    {b}", with.accuracy[index].1)?;
        }
        for (name, evaluations, curves) in
            [("without batch norm", &self.without, &without), ("with batch norm", &self.with, &with)]
        {
            writeln!(f, "\n{name}:")?;
            match evaluations.iter().find(|evaluation| evaluation.accuracy >= 0.9) {
                Some(first) => writeln!(f, "  accuracy 0.9 after {} steps", first.step)?,
                None => writeln!(f, "  accuracy 0.9 not reached")?,
            }
            let last = &evaluations[evaluations.len() - evaluations.len().min(10)..];
            let mean = last.iter().map(|evaluation| evaluation.accuracy).sum::<f64>() / last.len() as f64;
            writeln!(f, "  mean accuracy of the last {} evaluations: {mean:.4}", last.len())?;
            let (low, high) = range(curves.percentiles.iter().map(|(_, [_, median, _])| *median));
            writeln!(f, "  into a typical sigmoid: median from {low:.2} to {high:.2},")?;
            let (low, high) = range(curves.percentiles.iter().map(|(_, [low, _, high])| high - low));
            writeln!(f, "  85th percentile {low:.2} to {high:.2} above the 15th")?;
        }
        Ok(())
    }
}
