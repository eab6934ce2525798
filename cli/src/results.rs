//! What `run` computed and how far it is from the reference, gathered from one block of channels after the other.
//!
//! Whole tensors are only kept as the file stores them, and once: the results of a block take the place of what they
//! were computed of. The reference takes some 50 bytes for each element that it computes, and twice that with
//! gradients, so it gets a block at a time. A block is judged by its own scale, which is stricter than that of the
//! whole tensor, and as right: a file may have only these channels. A channel with more elements than a block is
//! computed in pieces: see [`long`](crate::long).

use crate::blocks::axis;
use crate::error::{Error, Result};
use crate::file::store;
use crate::input::Job;
use crate::statistics::Spread;
use std::collections::BTreeMap;
use std::ops::Range;
use wgpu_batchnorm::DType;
use wgpu_batchnorm::ndarray::{Array1, ArrayD, Axis, Slice};
use wgpu_batchnorm::verify::{CheckReport, Inputs, Mismatch, Outputs, Step, StepGradients};

/// The results of all steps, but for the tensors, which are in the [`Job`].
pub(crate) struct Results {
    pub(crate) steps: Vec<StepResults>,
    pub(crate) check: CheckReport,
    pub(crate) axis: Axis,
}

/// The results of a step that have one value per channel, rounded as the file stores them.
#[derive(Default)]
pub(crate) struct StepResults {
    /// `batch_mean`, `batch_var`, `running_mean`, `running_var`, `dweight` and `dbias`, as far as the case has them.
    pub(crate) vectors: BTreeMap<&'static str, Array1<f64>>,
    pub(crate) num_batches_tracked: Option<u64>,
    /// Those of x and of y in each channel.
    pub(crate) spreads: Vec<[Spread; 2]>,
}

impl Results {
    /// Makes room for the results of a job.
    pub(crate) fn new(job: &Job) -> Self {
        let check = CheckReport { case: job.case.name.clone(), errors: Vec::new(), mismatches: Vec::new() };
        let steps = job.batches.xs.iter().map(|_| StepResults::default()).collect();
        Self { steps, check, axis: axis(&job.case) }
    }

    /// Puts the results of a block of channels in their place. Blocks come in order.
    pub(crate) fn put(&mut self, job: &mut Job, inputs: &Inputs, outputs: &Outputs, block: &Range<usize>) {
        let channels = job.case.config.num_features;
        for (k, (step, x)) in outputs.steps.iter().zip(&inputs.xs).enumerate() {
            let [x, y] = [Spread::of_channels(x, self.axis), Spread::of_channels(&step.y, self.axis)];
            self.steps[k].spreads.extend(x.into_iter().zip(y).map(|(x, y)| [x, y]));
            self.steps[k].put_vectors(step, block, channels);
            for (name, part) in tensors(step) {
                let dtype = job.case.dtype;
                if let Some(place) = job.batches.place(name, k) {
                    place.put_part(block, &stored(dtype, part));
                }
            }
        }
    }

    /// Adds the judgement of a block of channels. A quantity that is wrong in several blocks has one mismatch, the
    /// worst.
    pub(crate) fn note(&mut self, check: CheckReport, block: &Range<usize>) {
        for (quantity, error) in check.errors {
            match self.check.errors.iter_mut().find(|(name, _)| *name == quantity) {
                Some((_, worst)) => *worst = worst.max(error),
                None => self.check.errors.push((quantity, error)),
            }
        }
        for mut mismatch in check.mismatches {
            if let Mismatch::Value { index, .. } = &mut mismatch {
                let axis = if index.len() == 1 { 0 } else { self.axis.0 };
                index.iter_mut().skip(axis).take(1).for_each(|channel| *channel += block.start);
            }
            let name = |mismatch: &Mismatch| match mismatch {
                Mismatch::Value { name, .. } => name.clone(),
                other => other.to_string(),
            };
            match self.check.mismatches.iter_mut().find(|other| name(other) == name(&mismatch)) {
                Some(other) if other.error() < mismatch.error() => *other = mismatch,
                Some(_) => {}
                None => self.check.mismatches.push(mismatch),
            }
        }
    }
}

impl StepResults {
    /// Puts the results with one value per channel in their place.
    pub(crate) fn put_vectors(&mut self, step: &Step, block: &Range<usize>, channels: usize) {
        let gradients = step.gradients.as_ref();
        let vectors = [
            ("batch_mean", step.batch_mean.as_ref()),
            ("batch_var", step.batch_var.as_ref()),
            ("running_mean", step.running_mean.as_ref()),
            ("running_var", step.running_var.as_ref()),
            ("dweight", gradients.and_then(|gradients| gradients.dweight.as_ref())),
            ("dbias", gradients.and_then(|gradients| gradients.dbias.as_ref())),
        ];
        for (name, part) in vectors {
            if let Some(part) = part {
                let whole = self.vectors.entry(name).or_insert_with(|| Array1::zeros(channels));
                whole.slice_axis_mut(Axis(0), Slice::from(block.clone())).assign(part);
            }
        }
        self.num_batches_tracked = step.num_batches_tracked;
    }
}

/// Returns the tensors of a step, as far as it has them, with their names.
pub(crate) fn tensors(step: &Step) -> impl Iterator<Item = (&'static str, &ArrayD<f64>)> {
    let gradients = step.gradients.as_ref();
    let dx = gradients.map(|gradients| ("dx", &gradients.dx));
    let dresidual = gradients
        .and_then(|gradients| gradients.dresidual.as_ref())
        .map(|dresidual| ("dresidual", dresidual));
    [Some(("y", &step.y)), dx, dresidual].into_iter().flatten()
}

/// Returns a tensor as the file stores it.
pub(crate) fn stored(dtype: DType, tensor: &ArrayD<f64>) -> Vec<u8> {
    let mut data = Vec::with_capacity(tensor.len() * dtype.bytes() as usize);
    store(&mut data, dtype, tensor.iter().copied());
    data
}

/// Fails if there is no memory to compute and check this number of elements at once. The reference needs most of it.
pub(crate) fn check_room(elements: usize, backward: bool) -> Result<()> {
    room(elements.saturating_mul(if backward { 128 } else { 64 }), "a block of channels")
}

/// Fails if there is no memory for the device's part of a channel with this number of elements: inputs in f32, and
/// results in f64.
pub(crate) fn check_device_room(elements: usize, backward: bool) -> Result<()> {
    room(elements.saturating_mul(if backward { 72 } else { 24 }), "a channel")
}

/// Fails if there is no memory for a copy of a channel with this number of bytes.
pub(crate) fn check_copy_room(bytes: usize) -> Result<()> {
    room(bytes, "a channel")
}

fn room(bytes: usize, what: &str) -> Result<()> {
    let what = format!("computing and checking {what}");
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| Error::Memory { what, bytes })
}

/// Rounds the results of a step as the file stores them. They are checked and reported in this form.
pub(crate) fn as_stored(step: Step, dtype: DType) -> Step {
    let round = |value: f64| f64::from(value as f32);
    let tensor = |tensor: ArrayD<f64>| tensor.mapv_into(|value| dtype.round(value));
    let vector = |vector: Option<Array1<f64>>| vector.map(|vector| vector.mapv_into(round));
    Step {
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
            dresidual: gradients.dresidual.map(tensor),
            scales: gradients.scales,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Results, check_device_room, check_room};
    use crate::error::Error;
    use wgpu_batchnorm::ndarray::Axis;
    use wgpu_batchnorm::verify::{CheckReport, Mismatch};

    #[test]
    fn the_worst_block_is_reported_with_the_channel_of_the_file() {
        let value = |name: &str, index: &[usize], error: f64| Mismatch::Value {
            name: name.to_owned(),
            index: index.to_vec(),
            actual: 1.0,
            exact: 2.0,
            error,
            tolerance: 1e-6,
        };
        let missing = Mismatch::Presence { name: "dresidual".to_owned(), expected: true };
        let report = |mismatches: Vec<Mismatch>, error: f64| CheckReport {
            case: "x".to_owned(),
            errors: vec![("y", error)],
            mismatches,
        };
        let check = report(Vec::new(), 0.1);
        let mut results = Results { steps: Vec::new(), check, axis: Axis(1) };
        let first = vec![value("y.0", &[3, 1, 2], 0.2), value("running_var.0", &[1], 0.3), missing.clone()];
        results.note(report(first, 0.2), &(0..4));
        let second = vec![value("y.0", &[0, 2, 0], 0.5), value("running_var.0", &[2], 0.1), missing.clone()];
        results.note(report(second, 0.5), &(4..8));
        assert_eq!(results.check.errors, [("y", 0.5)]);
        let expected = [value("y.0", &[0, 6, 0], 0.5), value("running_var.0", &[1], 0.3), missing];
        assert_eq!(results.check.mismatches, expected);
    }

    #[test]
    fn too_little_memory_is_an_error() {
        for check in [check_room, check_device_room] {
            for backward in [false, true] {
                assert!(check(5, backward).is_ok());
                for elements in [1 << 56, isize::MAX as usize, usize::MAX] {
                    assert!(matches!(check(elements, backward), Err(Error::Memory { .. })));
                }
            }
        }
    }
}
