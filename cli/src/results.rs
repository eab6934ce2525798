//! What `run` computed and how far it is from the reference, gathered from one block of channels after the other.
//!
//! Whole tensors are only kept as the file stores them. The reference takes some 50 bytes for each element that it
//! computes, and twice that with gradients, so it gets a block at a time. A block is judged by its own scale, which is
//! stricter than that of the whole tensor, and as right: a file may have only these channels.

use crate::blocks::axis;
use crate::error::{Error, Result};
use crate::file::store;
use crate::input::Job;
use crate::statistics::Spread;
use std::collections::BTreeMap;
use std::ops::Range;
use wgpu_batchnorm::ndarray::{Array1, ArrayD, Axis, Slice};
use wgpu_batchnorm::verify::{CheckReport, Inputs, Mismatch, Outputs, Step, StepGradients};
use wgpu_batchnorm::{DType, Problem};

/// The results of all steps.
pub(crate) struct Results {
    pub(crate) steps: Vec<StepResults>,
    pub(crate) check: CheckReport,
    axis: Axis,
    dtype: DType,
}

/// The results of a step, rounded as the file stores them.
pub(crate) struct StepResults {
    /// The bytes of `y`, `dx` and `dz`, as far as the case has them.
    pub(crate) tensors: BTreeMap<&'static str, Vec<u8>>,
    /// One value per channel: `batch_mean`, `batch_var`, `running_mean`, `running_var`, `dweight` and `dbias`, as far
    /// as the case has them.
    pub(crate) vectors: BTreeMap<&'static str, Array1<f64>>,
    pub(crate) num_batches_tracked: Option<u64>,
    /// Those of x and of y in each channel.
    pub(crate) spreads: Vec<[Spread; 2]>,
    problem: Problem,
}

impl Results {
    /// Makes room for the results of a job.
    pub(crate) fn new(job: &Job) -> Result<Self> {
        let case = &job.case;
        let mut steps = Vec::new();
        for (k, x) in job.xs.iter().enumerate() {
            let mut tensors = BTreeMap::new();
            let backward = job.dys.get(k).is_some();
            let names = [("y", true), ("dx", backward), ("dz", backward && job.zs.get(k).is_some())];
            for (name, _) in names.into_iter().filter(|(_, is_there)| *is_there) {
                tensors.insert(name, room(name, x.len() * case.dtype.bytes() as usize)?);
            }
            steps.push(StepResults {
                tensors,
                vectors: BTreeMap::new(),
                num_batches_tracked: None,
                spreads: Vec::new(),
                problem: Problem::new(&x.shape, case.config.layout)?,
            });
        }
        let check = CheckReport { case: case.name.clone(), errors: Vec::new(), mismatches: Vec::new() };
        Ok(Self { steps, check, axis: axis(case), dtype: case.dtype })
    }

    /// Puts the results of a block of channels in their place. Blocks come in order.
    pub(crate) fn put(&mut self, inputs: &Inputs, outputs: &Outputs, block: &Range<usize>) {
        let (axis, dtype) = (self.axis, self.dtype);
        for ((whole, step), x) in self.steps.iter_mut().zip(&outputs.steps).zip(&inputs.xs) {
            let y = Spread::of_channels(&step.y, axis);
            whole.spreads.extend(Spread::of_channels(x, axis).into_iter().zip(y).map(|(x, y)| [x, y]));
            let gradients = step.gradients.as_ref();
            let tensors = [
                ("y", Some(&step.y)),
                ("dx", gradients.map(|gradients| &gradients.dx)),
                ("dz", gradients.and_then(|gradients| gradients.dz.as_ref())),
            ];
            for (name, part) in tensors {
                if let Some(part) = part {
                    whole.put_tensor(name, part, dtype, block);
                }
            }
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
                    whole.put_vector(name, part, block);
                }
            }
            whole.num_batches_tracked = step.num_batches_tracked;
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
    fn put_tensor(&mut self, name: &'static str, part: &ArrayD<f64>, dtype: DType, block: &Range<usize>) {
        let Some(whole) = self.tensors.get_mut(name).filter(|_| !part.is_empty()) else { return };
        let bytes = dtype.bytes() as usize;
        let mut stored = Vec::with_capacity(part.len() * bytes);
        store(&mut stored, dtype, part.iter().copied());
        // Tensors are [outer, channels, inner] in both layouts.
        let of_channel = self.problem.inner() * bytes;
        let rows = whole.chunks_exact_mut(self.problem.channels() * of_channel);
        for (row, part) in rows.zip(stored.chunks_exact(block.len() * of_channel)) {
            row[block.start * of_channel..block.end * of_channel].copy_from_slice(part);
        }
    }

    fn put_vector(&mut self, name: &'static str, part: &Array1<f64>, block: &Range<usize>) {
        let channels = self.problem.channels();
        let whole = self.vectors.entry(name).or_insert_with(|| Array1::zeros(channels));
        whole.slice_axis_mut(Axis(0), Slice::from(block.clone())).assign(part);
    }
}

/// Fails if there is no memory to compute and check this number of elements at once. The reference needs most of it.
pub(crate) fn check_room(elements: usize, backward: bool) -> Result<()> {
    let bytes = elements.saturating_mul(if backward { 128 } else { 64 });
    let what = "computing and checking a block of channels".to_owned();
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| Error::Memory { what, bytes })
}

/// Returns zeros.
fn room(name: &str, bytes: usize) -> Result<Vec<u8>> {
    let mut room = Vec::new();
    room.try_reserve_exact(bytes).map_err(|_| Error::Memory { what: name.to_owned(), bytes })?;
    room.resize(bytes, 0);
    Ok(room)
}

/// Rounds the outputs as the file stores them. They are checked and reported in this form.
pub(crate) fn as_stored(outputs: Outputs, dtype: DType) -> Outputs {
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

#[cfg(test)]
mod tests {
    use super::{Results, room};
    use crate::error::Error;
    use wgpu_batchnorm::DType;
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
        let missing = Mismatch::Presence { name: "dz".to_owned(), expected: true };
        let report = |mismatches: Vec<Mismatch>, error: f64| CheckReport {
            case: "x".to_owned(),
            errors: vec![("y", error)],
            mismatches,
        };
        let check = report(Vec::new(), 0.1);
        let mut results = Results { steps: Vec::new(), check, axis: Axis(1), dtype: DType::F32 };
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
        assert_eq!(room("y", 5).map_err(|error| error.line()), Ok(vec![0; 5]));
        assert!(matches!(room("y", isize::MAX as usize), Err(Error::Memory { .. })));
    }
}
