//! Trains a network, and evaluates it on the way.

use super::mlp::Mlp;
use super::shared::Result;
use super::shared::digits::{Batches, Digits};
use super::shared::loss::{accuracy, cross_entropy};
use super::shared::sgd::Sgd;
use ndarray::{Array2, ArrayView1, Axis};

/// Settings of the training. The paper uses batches of 60 and 50,000 steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Training {
    /// Batches to learn from.
    pub(crate) steps: usize,
    /// Steps from one evaluation to the next. The last step always has one.
    pub(crate) evaluate_every: usize,
    /// Images of a batch.
    pub(crate) batch: usize,
    /// The learning rate.
    pub(crate) rate: f32,
    /// Seed of the order of the images.
    pub(crate) seed: u64,
}

/// Results of the network on the test set, in eval mode.
#[derive(Clone, Debug)]
pub(crate) struct Evaluation {
    /// Training steps before the evaluation.
    pub(crate) step: usize,
    /// Fraction of the test set that the network recognises.
    pub(crate) accuracy: f64,
    /// For each sigmoid of the last hidden layer: the 15th, 50th and 85th percentiles of its input over the test
    /// set.
    pub(crate) percentiles: Vec<[f32; 3]>,
}

impl Training {
    /// Trains, and evaluates on the way. Calls `progress` after every step with its number, its loss and the
    /// evaluations so far.
    pub(crate) fn run(
        &self,
        network: &mut Mlp,
        train: &Digits,
        test: &Digits,
        mut progress: impl FnMut(usize, f64, &[Evaluation]),
    ) -> Result<Vec<Evaluation>> {
        let mut batches = Batches::new(train.len(), self.batch, self.seed)?;
        let sgd = Sgd { rate: self.rate, momentum: 0.0 };
        let mut evaluations = Vec::new();
        for step in 1..=self.steps {
            let (x, labels) = train.batch(batches.draw());
            let logits = network.forward(x)?;
            let (loss, dlogits) = cross_entropy(logits.view(), &labels);
            network.backward(&dlogits)?;
            network.step(sgd)?;
            if step % self.evaluate_every == 0 || step == self.steps {
                evaluations.push(evaluate(network, test, step)?);
            }
            progress(step, loss, &evaluations);
        }
        Ok(evaluations)
    }
}

fn evaluate(network: &mut Mlp, test: &Digits, step: usize) -> Result<Evaluation> {
    let (x, labels) = test.batch(&(0..test.len()).collect::<Vec<_>>());
    network.eval();
    let logits = network.forward(x)?;
    network.train();
    let accuracy = accuracy(logits.view(), &labels);
    let percentiles = network.hidden.last().map_or_else(Vec::new, |last| percentiles(&last.sigmoid_input));
    Ok(Evaluation { step, accuracy, percentiles })
}

/// Returns the 15th, 50th and 85th percentiles of every column.
fn percentiles(x: &Array2<f32>) -> Vec<[f32; 3]> {
    let of = |column: ArrayView1<'_, f32>| {
        let mut values = column.to_vec();
        values.sort_by(f32::total_cmp);
        [0.15, 0.50, 0.85].map(|part| values[(part * (values.len() - 1) as f64).round() as usize])
    };
    x.axis_iter(Axis(1)).map(of).collect()
}

/// Returns a typical unit by how far its median moves between its lowest and its highest point: half of the other
/// units' medians move farther, and half less far.
pub(crate) fn typical_unit(evaluations: &[Evaluation]) -> usize {
    let count = evaluations.first().map_or(0, |first| first.percentiles.len());
    let mut units: Vec<(f32, usize)> = (0..count)
        .map(|unit| {
            let (low, high) = range(evaluations.iter().map(|evaluation| evaluation.percentiles[unit][1]));
            (high - low, unit)
        })
        .collect();
    units.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    units.get(count / 2).map_or(0, |&(_, unit)| unit)
}

/// Returns the smallest and the largest of some values.
pub(crate) fn range(values: impl Iterator<Item = f32>) -> (f32, f32) {
    values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}
