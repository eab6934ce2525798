//! The CPU reference on all processors. Channels do not depend on each other, so each thread computes a block of them.

use crate::blocks::{axis, part};
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use wgpu_batchnorm::Result;
use wgpu_batchnorm::ndarray::{Array1, ArrayD, Axis, Slice};
use wgpu_batchnorm::verify::{Case, GradientScales, Implementation, Inputs, Outputs, Reference};

/// Elements that a thread computes at once, unless one channel has more. The reference takes some 70 bytes for each,
/// and the results of the whole tensor 16.
const BLOCK: usize = 1 << 18;

/// Runs the reference on `case`, with as many threads as there are processors. The results are those of [`Reference`]
/// up to the last digits, as sums may have another order. Only the scales of gradients near a corner of the activation
/// differ: what is near is relative to a block.
pub(crate) fn reference(case: &Case, inputs: &Inputs) -> Result<Outputs> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    in_blocks(case, inputs, threads, BLOCK)
}

fn in_blocks(case: &Case, inputs: &Inputs, threads: usize, elements: usize) -> Result<Outputs> {
    let channels = case.config.num_features;
    let of_channel = case.shape.iter().product::<usize>() / channels.max(1);
    let of_block = (elements / of_channel.max(1)).clamp(1, channels.div_ceil(threads).max(1));
    let blocks = channels.div_ceil(of_block);
    let (next, whole) = (AtomicUsize::new(0), Mutex::new(Outputs { steps: Vec::new() }));
    let work = || -> Result<()> {
        loop {
            let begin = next.fetch_add(1, Ordering::Relaxed) * of_block;
            if begin >= channels {
                return Ok(());
            }
            let block = begin..(begin + of_block).min(channels);
            let (part, inputs) = part(case, inputs, &block);
            let outputs = Reference.run(&part, &inputs)?;
            // Only the copy is done under the lock.
            put(&mut whole.lock().unwrap_or_else(PoisonError::into_inner), &outputs, case, &block);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(blocks)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    Ok(whole.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Copies the results of a block of channels to their place in those of the whole case. The first block makes room.
fn put(whole: &mut Outputs, part: &Outputs, case: &Case, block: &Range<usize>) {
    if whole.steps.is_empty() {
        whole.steps.clone_from(&part.steps);
    }
    let place = Place { shape: &case.shape, axis: axis(case), slice: Slice::from(block.clone()) };
    for (whole, part) in whole.steps.iter_mut().zip(&part.steps) {
        place.put(&mut whole.y, &part.y);
        place.put_vector(&mut whole.batch_mean, &part.batch_mean);
        place.put_vector(&mut whole.batch_var, &part.batch_var);
        place.put_vector(&mut whole.running_mean, &part.running_mean);
        place.put_vector(&mut whole.running_var, &part.running_var);
        let (Some(whole), Some(part)) = (&mut whole.gradients, &part.gradients) else { continue };
        place.put(&mut whole.dx, &part.dx);
        place.put_vector(&mut whole.dweight, &part.dweight);
        place.put_vector(&mut whole.dbias, &part.dbias);
        if let (Some(whole), Some(part)) = (&mut whole.dresidual, &part.dresidual) {
            place.put(whole, part);
        }
        let GradientScales { dx, dresidual, dweight, dbias, unsure } = &mut whole.scales;
        *dx = dx.max(part.scales.dx);
        *dresidual = dresidual.max(part.scales.dresidual);
        *dweight = dweight.max(part.scales.dweight);
        *dbias = dbias.max(part.scales.dbias);
        if let Some(part) = &part.scales.unsure {
            place.put(unsure.get_or_insert_default(), part);
        }
    }
}

/// Where a block of channels belongs.
struct Place<'a> {
    /// The shape of whole tensors.
    shape: &'a [usize],
    axis: Axis,
    slice: Slice,
}

impl Place<'_> {
    fn put<T: Clone + Default>(&self, whole: &mut ArrayD<T>, part: &ArrayD<T>) {
        if whole.shape() != self.shape {
            *whole = ArrayD::default(self.shape);
        }
        whole.slice_axis_mut(self.axis, self.slice).assign(part);
    }

    fn put_vector(&self, whole: &mut Option<Array1<f64>>, part: &Option<Array1<f64>>) {
        let channels = self.shape[self.axis.0];
        let (Some(whole), Some(part)) = (whole, part) else { return };
        if whole.len() != channels {
            *whole = Array1::zeros(channels);
        }
        whole.slice_axis_mut(Axis(0), self.slice).assign(part);
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::case;
    use super::{Case, Outputs, in_blocks};
    use crate::bench::sets::{Shape, Variant};
    use wgpu_batchnorm::internals::Pass;
    use wgpu_batchnorm::verify::{Implementation, Reference, judge};
    use wgpu_batchnorm::{Activation, DType, Layout, Result};

    fn of(sizes: &[usize], layout: Layout, activation: Activation, pass: Pass) -> Case {
        let variant = Variant { dtype: DType::F32, activation, add: true, apart: false };
        case(&Shape { variant, ..Shape::new(sizes.to_vec(), layout) }, pass)
    }

    #[test]
    fn blocks_give_the_results_of_the_whole() -> Result<()> {
        for (sizes, layout) in [
            (&[3, 7, 5, 2][..], Layout::ChannelsFirst),
            (&[3, 5, 2, 7], Layout::ChannelsLast),
            (&[4, 1], Layout::ChannelsFirst),
        ] {
            for pass in [Pass::ForwardTrain, Pass::ForwardEval] {
                let case = of(sizes, layout, Activation::Silu, pass);
                let mut inputs = case.inputs();
                let whole = Reference.run(&case, &inputs)?;
                let scales = |outputs: &Outputs| {
                    let scales = outputs.steps[0].gradients.as_ref().map(|gradients| &gradients.scales);
                    scales.map_or([f64::NAN; 4], |s| [s.dx, s.dresidual, s.dweight, s.dbias])
                };
                for (threads, elements) in [(1, 1), (1, 1000), (2, 60), (3, 1000), (16, 31)] {
                    let blocks = in_blocks(&case, &inputs, threads, elements)?;
                    let report = judge(&case, &blocks, &whole);
                    assert!(report.passed() && report.worst() < 1e-13, "{threads} threads: {report}");
                    assert!(
                        report.error("dresidual").is_some() && report.error("running_var").is_some(),
                        "{report}"
                    );
                    for (block, whole) in scales(&blocks).into_iter().zip(scales(&whole)) {
                        assert!((block / whole - 1.0).abs() < 1e-13, "{block} {whole}: {report}");
                    }
                }
                inputs.dys.clear();
                assert!(in_blocks(&case, &inputs, 2, 1)?.steps[0].gradients.is_none());
            }
        }
        Ok(())
    }

    /// A block without an element near the corner has no mask; the others' masks must stay in place.
    #[test]
    fn elements_near_a_corner_stay_in_place() -> Result<()> {
        let mut case = of(&[4, 6], Layout::ChannelsFirst, Activation::Relu, Pass::ForwardEval);
        case.residual = false;
        let mut inputs = case.inputs();
        inputs.residuals.clear();
        inputs.state = wgpu_batchnorm::BatchNormState::new(&case.config);
        inputs.xs[0][[2, 3]] = 1e-8;
        let (whole, blocks) = (Reference.run(&case, &inputs)?, in_blocks(&case, &inputs, 2, 4)?);
        let unsure = |outputs: &Outputs| {
            outputs.steps[0].gradients.as_ref().and_then(|gradients| gradients.scales.unsure.clone())
        };
        assert!(unsure(&whole).is_some_and(|mask| mask[[2, 3]]));
        assert_eq!(unsure(&whole), unsure(&blocks));
        assert!(judge(&case, &blocks, &whole).passed() && judge(&case, &whole, &blocks).passed());
        Ok(())
    }
}
