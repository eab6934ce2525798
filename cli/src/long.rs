//! Computes a channel that is too large for a block, and checks it a piece at a time.
//!
//! The CPU reference computes pieces only. A GPU computes the whole channel: its results are kept as the file stores
//! them, and take the place of the input once no piece of the reference needs it.

use crate::adapter::Computer;
use crate::batch::{Batch, Batches, decode};
use crate::blocks::axis;
use crate::error::{Error, Result};
use crate::report::Timing;
use crate::results::{Results, as_stored, check_device_room, check_room, stored, tensors};
use crate::run::milliseconds;
use crate::statistics::Spread;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;
use wgpu_batchnorm::half::{bf16, f16};
use wgpu_batchnorm::internals::{ChannelValues, LongChannel, pieces, run_channel};
use wgpu_batchnorm::ndarray::{Array1, ArrayD, Axis};
use wgpu_batchnorm::verify::{Case, Mismatch, Step};
use wgpu_batchnorm::{BatchNormState, DType, Element, Gpu};

/// A channel, and how to compute it.
pub(crate) struct Long<'a> {
    pub(crate) device: &'a dyn Computer,
    /// The case with this one channel.
    pub(crate) case: Case,
    pub(crate) state: BatchNormState,
    /// The channel, as a block of all channels.
    pub(crate) whole: Range<usize>,
    /// The number of all channels.
    pub(crate) channels: usize,
    /// Elements of a piece.
    pub(crate) piece: usize,
}

impl Long<'_> {
    /// Checks channel `channel` of these batches, and puts its results in their place: those of the device, or of the
    /// CPU reference.
    pub(crate) fn check(
        &self,
        batches: &mut Batches,
        channel: usize,
        results: &mut Results,
        timing: &mut Timing,
        by_device: Option<&[StoredStep]>,
    ) -> Result<()> {
        let dtype = self.case.dtype;
        check_room(self.piece, !batches.dys.is_empty())?;
        // Where the reference computes, checking is no more than comparing.
        let (mut exact_ms, mut judge_ms) = (0.0, 0.0);
        let started = Instant::now();
        let long = LongChannel::new(&self.case, &self.state, &Values(batches, channel), self.piece)?;
        exact_ms += milliseconds(started);
        for step in 0..batches.xs.len() {
            let n = batches.xs[step].of_channel();
            let mean = self.all(batches, channel, step).sum::<f64>() / n as f64;
            let x = Spread::around(mean, n, self.all(batches, channel, step));
            let mut sum_of_y = 0.0;
            for range in pieces(n, self.piece) {
                let started = Instant::now();
                let exact = long.piece(&Values(batches, channel), step, range.clone());
                let actual = match by_device {
                    Some(steps) => steps[step].piece(&range, dtype),
                    None => as_stored(exact.clone(), dtype),
                };
                exact_ms += milliseconds(started);
                let started = Instant::now();
                let mut check = long.judge(step, &actual, &exact);
                for mismatch in &mut check.mismatches {
                    place(mismatch, range.start, &batches.xs[step].shape, results.axis);
                }
                results.note(check, &self.whole);
                judge_ms += milliseconds(started);
                sum_of_y = actual.y.iter().fold(sum_of_y, |sum, y| sum + y);
                for (name, part) in tensors(&actual).filter(|(_, part)| part.len() == range.len()) {
                    if let Some(whole) = batches.place(name, step) {
                        whole.put_piece(channel, &range, part);
                    }
                }
                results.steps[step].put_vectors(&actual, &self.whole, self.channels);
            }
            let y = Spread::around(sum_of_y / n as f64, n, self.all(batches, channel, step));
            results.steps[step].spreads.push([x, y]);
        }
        timing.check_ms += judge_ms;
        let timing = if by_device.is_some() { &mut timing.check_ms } else { &mut timing.compute_ms };
        *timing += exact_ms;
        Ok(())
    }

    /// Computes channel `channel` of these batches, unless the device is the reference. `failed` makes an error of the
    /// device's.
    pub(crate) fn by_device(
        &self,
        batches: &Batches,
        channel: usize,
        failed: impl Fn(wgpu_batchnorm::Error) -> Error,
    ) -> Result<Option<Vec<StoredStep>>> {
        if self.device.is_reference() {
            return Ok(None);
        }
        let elements = batches.xs.iter().map(Batch::of_channel).sum();
        check_device_room(elements, !batches.dys.is_empty())?;
        let steps = match (self.device.gpu(), self.case.dtype) {
            (None, _) => {
                let block = channel..channel + 1;
                let inputs = batches.inputs(&block, self.state.clone(), axis(&self.case));
                let outputs = self.device.run(&self.case, &inputs).map_err(failed)?;
                drop(inputs);
                outputs.steps.into_iter().map(|step| StoredStep::new(step, self.case.dtype)).collect()
            }
            (Some(gpu), DType::F16) => self.by_gpu::<f16>(gpu, batches, channel).map_err(failed)?,
            (Some(gpu), DType::BF16) => self.by_gpu::<bf16>(gpu, batches, channel).map_err(failed)?,
            (Some(gpu), _) => self.by_gpu::<f32>(gpu, batches, channel).map_err(failed)?,
        };
        Ok(Some(steps))
    }

    /// Computes the channel on a GPU.
    fn by_gpu<T: Element>(
        &self,
        gpu: &Gpu,
        batches: &Batches,
        channel: usize,
    ) -> wgpu_batchnorm::Result<Vec<StoredStep>> {
        let mut stored: Vec<BTreeMap<&str, Vec<u8>>> = vec![BTreeMap::new(); batches.xs.len()];
        let axis = axis(&self.case).0;
        let shapes = batches.xs.iter().map(|x| {
            let mut shape = x.shape.clone();
            shape[axis] = 1;
            shape
        });
        let shapes: Vec<Vec<usize>> = shapes.collect();
        let values = Values(batches, channel);
        let put = |step: usize, name, data| drop(stored[step].insert(name, data));
        let others = run_channel::<T>(gpu, &self.case, &self.state, &shapes, &values, put)?;
        let steps = others.into_iter().zip(stored).map(|(others, mut stored)| {
            let [y, dx, dresidual] =
                ["y", "dx", "dresidual"].map(|name| stored.remove(name).unwrap_or_default());
            StoredStep { y, dx, dresidual, others: as_stored(others, T::DTYPE) }
        });
        Ok(steps.collect())
    }

    /// Returns what is in the place of x: x itself, and later y.
    fn all(&self, batches: &Batches, channel: usize, step: usize) -> impl Iterator<Item = f64> {
        let x = &batches.xs[step];
        pieces(x.of_channel(), self.piece).flat_map(move |range| x.piece(channel, &range)).map(f64::from)
    }
}

/// The values of a channel in the file's data.
struct Values<'a>(&'a Batches, usize);

impl ChannelValues for Values<'_> {
    fn steps(&self) -> usize {
        self.0.xs.len()
    }

    fn len(&self, step: usize) -> usize {
        self.0.xs[step].of_channel()
    }

    fn x(&self, step: usize, range: Range<usize>) -> Vec<f32> {
        self.0.xs[step].piece(self.1, &range)
    }

    fn residual(&self, step: usize, range: Range<usize>) -> Option<Vec<f32>> {
        self.0.residuals.get(step).map(|residual| residual.piece(self.1, &range))
    }

    fn dy(&self, step: usize, range: Range<usize>) -> Option<Vec<f32>> {
        self.0.dys.get(step).map(|dy| dy.piece(self.1, &range))
    }
}

/// The results of a device on a whole channel, in one step. The tensors are as the file stores them.
pub(crate) struct StoredStep {
    y: Vec<u8>,
    dx: Vec<u8>,
    dresidual: Vec<u8>,
    /// All other results. Tensors are empty.
    others: Step,
}

impl StoredStep {
    fn new(mut step: Step, dtype: DType) -> Self {
        // Each tensor is dropped before the next is stored.
        let store = |tensor: &mut ArrayD<f64>| stored(dtype, &std::mem::take(tensor));
        let y = store(&mut step.y);
        let gradients = step.gradients.as_mut();
        let (dx, dresidual) = gradients.map_or_else(Default::default, |gradients| {
            (store(&mut gradients.dx), gradients.dresidual.as_mut().map(store).unwrap_or_default())
        });
        Self { y, dx, dresidual, others: as_stored(step, dtype) }
    }

    /// Returns the results of a piece of the channel.
    fn piece(&self, range: &Range<usize>, dtype: DType) -> Step {
        let tensor = |data: &[u8]| {
            let bytes = dtype.bytes() as usize;
            // A tensor of the wrong size is cut, which the comparison reports.
            let data = data.get(range.start * bytes..range.end * bytes).unwrap_or_default();
            let mut values = vec![0.0; data.len() / bytes];
            decode(dtype, data, 1, &mut values);
            values.into_iter().map(f64::from).collect::<Array1<f64>>().insert_axis(Axis(1)).into_dyn()
        };
        let mut step = self.others.clone();
        step.y = tensor(&self.y);
        if let Some(gradients) = &mut step.gradients {
            gradients.dx = tensor(&self.dx);
            if let Some(dresidual) = &mut gradients.dresidual {
                *dresidual = tensor(&self.dresidual);
            }
        }
        step
    }
}

/// Makes the index of an element in a piece, `[k, 0]`, that of the element in a tensor with this one channel. `begin`
/// is the position of the piece in the channel.
fn place(mismatch: &mut Mismatch, begin: usize, shape: &[usize], axis: Axis) {
    if let Mismatch::Value { index, .. } = mismatch
        && let [position, _] = index[..]
    {
        let (mut rest, mut whole) = (begin + position, vec![0; shape.len()]);
        for k in (0..shape.len()).rev().filter(|k| *k != axis.0) {
            (whole[k], rest) = (rest % shape[k], rest / shape[k]);
        }
        *index = whole;
    }
}

#[cfg(test)]
mod tests {
    use super::place;
    use wgpu_batchnorm::ndarray::Axis;
    use wgpu_batchnorm::verify::Mismatch;

    #[test]
    fn an_element_of_a_piece_has_the_index_of_the_tensor() {
        let value = |index: &[usize]| Mismatch::Value {
            name: "y".to_owned(),
            index: index.to_vec(),
            actual: 1.0,
            exact: 2.0,
            error: 1.0,
            tolerance: 1e-6,
        };
        for (axis, expected) in [(1, [2, 0, 1, 3]), (3, [2, 1, 3, 0])] {
            let sizes = if axis == 1 { [3, 7, 2, 4] } else { [3, 2, 4, 7] };
            let mut mismatch = value(&[3, 0]);
            // Element 23 of [3, 2, 4] is [2, 1, 3].
            place(&mut mismatch, 20, &sizes, Axis(axis));
            assert_eq!(mismatch, value(&expected));
        }
        // A result with one value per channel is not divided.
        let mut mismatch = value(&[0]);
        place(&mut mismatch, 20, &[3, 7, 2, 4], Axis(1));
        assert_eq!(mismatch, value(&[0]));
    }
}
