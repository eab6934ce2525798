//! Batches in memory, as the file stores them: their values by blocks of channels, and by pieces of one channel.

use std::ops::Range;
use wgpu_batchnorm::half::{bf16, f16};
use wgpu_batchnorm::ndarray::{ArrayD, Axis, IxDyn};
use wgpu_batchnorm::verify::Inputs;
use wgpu_batchnorm::{BatchNormState, DType, Problem};

/// The batches of all steps, with what accompanies them.
pub(crate) struct Batches {
    pub(crate) xs: Vec<Batch>,
    /// The gradients with respect to the outputs. Empty if only forward passes run.
    pub(crate) dys: Vec<Batch>,
    /// What is added to the normalised batches. Empty if nothing is.
    pub(crate) residuals: Vec<Batch>,
}

/// A batch, or a tensor that accompanies one, as the file stores it. Of the tensors that are as large as a batch, this
/// is the only copy: a result takes the place of the values that nothing needs any more.
pub(crate) struct Batch {
    pub(crate) shape: Vec<usize>,
    outer: usize,
    channels: usize,
    inner: usize,
    dtype: DType,
    data: Vec<u8>,
}

impl Batch {
    /// Returns a batch of this shape, which is that of the problem.
    pub(crate) fn new(shape: Vec<usize>, problem: &Problem, dtype: DType, data: Vec<u8>) -> Self {
        let (outer, channels, inner) = (problem.outer(), problem.channels(), problem.inner());
        Self { shape, outer, channels, inner, dtype, data }
    }

    /// Returns another tensor of the same shape and type.
    pub(crate) fn of_this_shape(&self, data: Vec<u8>) -> Self {
        Self { shape: self.shape.clone(), data, ..*self }
    }

    /// Returns the number of elements.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns the number of values of each channel.
    pub(crate) fn of_channel(&self) -> usize {
        self.outer * self.inner
    }

    /// Returns the values of a block of channels.
    fn part(&self, axis: Axis, block: &Range<usize>) -> ArrayD<f32> {
        let mut shape = self.shape.clone();
        shape[axis.0] = block.len();
        let mut part = ArrayD::zeros(IxDyn(&shape));
        if let Some(values) = part.as_slice_mut().filter(|values| !values.is_empty()) {
            let rows = values.chunks_exact_mut(self.inner * block.len());
            for (to, place) in rows.zip(self.rows(block)) {
                decode(self.dtype, &self.data[place], 1, to);
            }
        }
        part
    }

    /// Puts the values of a block of channels into their place: those of [`part`](Self::part), as the file stores them.
    pub(crate) fn put_part(&mut self, block: &Range<usize>, stored: &[u8]) {
        let length = self.inner * block.len() * self.bytes();
        if length > 0 {
            for (place, part) in self.rows(block).zip(stored.chunks_exact(length)) {
                self.data[place].copy_from_slice(part);
            }
        }
    }

    /// Returns a copy of one channel.
    fn channel(&self, channel: usize, axis: Axis) -> Self {
        let mut shape = self.shape.clone();
        shape[axis.0] = 1;
        let rows = self.rows(&(channel..channel + 1)).map(|place| &self.data[place]);
        let mut data = Vec::with_capacity(self.data.len() / self.channels);
        rows.for_each(|row| data.extend_from_slice(row));
        Self { shape, channels: 1, data, ..*self }
    }

    /// Returns where the data of a block of channels lies. Tensors are [outer, channels, inner] in both layouts.
    fn rows(&self, block: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let of_channel = self.inner * self.bytes();
        let (row, block) = (self.channels * of_channel, block.clone());
        (0..self.outer)
            .map(move |outer| outer * row + block.start * of_channel..outer * row + block.end * of_channel)
    }

    fn bytes(&self) -> usize {
        self.dtype.bytes() as usize
    }

    /// Returns a range of the values of one channel, in their order.
    pub(crate) fn piece(&self, channel: usize, range: &Range<usize>) -> Vec<f32> {
        let mut values = vec![0.0; range.len()];
        let mut rest = values.as_mut_slice();
        for run in self.runs(channel, range) {
            let (to, behind) = rest.split_at_mut(run.count);
            decode(self.dtype, &self.data[run.begin * self.bytes()..], run.step, to);
            rest = behind;
        }
        values
    }

    /// Puts a range of the values of one channel into its place, rounded as the file stores them.
    pub(crate) fn put_piece<'a>(
        &mut self,
        channel: usize,
        range: &Range<usize>,
        values: impl IntoIterator<Item = &'a f64>,
    ) {
        let (bytes, mut values) = (self.bytes(), values.into_iter().copied());
        for run in self.runs(channel, range) {
            encode(self.dtype, &mut self.data[run.begin * bytes..], &run, &mut values);
        }
    }

    /// Returns where a range of the values of one channel lies.
    fn runs(&self, channel: usize, range: &Range<usize>) -> impl Iterator<Item = Run> + use<> {
        let (channels, inner, range) = (self.channels, self.inner.max(1), range.clone());
        // Where rows have one value each, they make one run.
        let row = if inner == 1 { range.end.max(1) } else { inner };
        (range.start / row..range.end.div_ceil(row)).map(move |k| {
            let (begin, end) = (range.start.max(k * row), range.end.min((k + 1) * row));
            let (outer, inside) = (begin / inner, begin % inner);
            Run {
                begin: (outer * channels + channel) * inner + inside,
                step: if inner == 1 { channels } else { 1 },
                count: end - begin,
            }
        })
    }

    /// Takes the data out.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.data)
    }
}

impl Batches {
    /// Returns the tensor that makes place for a result: y takes that of x, dx that of dy, and dresidual that of the
    /// residual.
    pub(crate) fn place(&mut self, result: &'static str, step: usize) -> Option<&mut Batch> {
        match result {
            "y" => self.xs.get_mut(step),
            "dx" => self.dys.get_mut(step),
            _ if self.dys.is_empty() => None,
            _ => self.residuals.get_mut(step),
        }
    }

    /// Returns the data of a block of channels. `state` is that of the block.
    pub(crate) fn inputs(&self, block: &Range<usize>, state: BatchNormState, axis: Axis) -> Inputs {
        let all = |batches: &[Batch]| batches.iter().map(|batch| batch.part(axis, block)).collect();
        Inputs { xs: all(&self.xs), dys: all(&self.dys), residuals: all(&self.residuals), state }
    }

    /// Returns whether the values of a channel do not follow each other anywhere.
    pub(crate) fn values_lie_apart(&self) -> bool {
        self.xs.iter().any(|x| x.inner == 1 && x.channels > 1)
    }

    /// Returns the bytes of one channel in all tensors.
    pub(crate) fn bytes_of_channel(&self) -> usize {
        let tensors = [&self.xs, &self.dys, &self.residuals].into_iter().flatten();
        tensors.map(|batch| batch.of_channel() * batch.bytes()).sum()
    }

    /// Returns a copy of one channel.
    pub(crate) fn channel(&self, channel: usize, axis: Axis) -> Self {
        let all = |batches: &[Batch]| batches.iter().map(|batch| batch.channel(channel, axis)).collect();
        Self { xs: all(&self.xs), dys: all(&self.dys), residuals: all(&self.residuals) }
    }

    /// Puts the results of one channel back, which took the place of its copy.
    pub(crate) fn put_channel(&mut self, channel: usize, copy: &Self) {
        for (all, copies) in
            [(&mut self.xs, &copy.xs), (&mut self.dys, &copy.dys), (&mut self.residuals, &copy.residuals)]
        {
            for (batch, copy) in all.iter_mut().zip(copies) {
                batch.put_part(&(channel..channel + 1), &copy.data);
            }
        }
    }
}

/// Elements of a tensor at equal distances.
struct Run {
    begin: usize,
    step: usize,
    count: usize,
}

/// Writes the values of every `step`th element of these bytes.
pub(crate) fn decode(dtype: DType, bytes: &[u8], step: usize, values: &mut [f32]) {
    fn each<const N: usize>(bytes: &[u8], step: usize, values: &mut [f32], value: impl Fn([u8; N]) -> f32) {
        let elements = bytes.as_chunks().0.iter().step_by(step);
        values.iter_mut().zip(elements).for_each(|(to, bytes)| *to = value(*bytes));
    }
    match dtype {
        DType::F16 => each(bytes, step, values, |half| f16::from_le_bytes(half).to_f32()),
        DType::BF16 => each(bytes, step, values, |half| bf16::from_le_bytes(half).to_f32()),
        _ => each(bytes, step, values, f32::from_le_bytes),
    }
}

/// Stores values in the elements of a run, of which these bytes begin with the first.
fn encode(dtype: DType, bytes: &mut [u8], run: &Run, values: &mut impl Iterator<Item = f64>) {
    fn each<const N: usize>(
        bytes: &mut [u8],
        run: &Run,
        values: &mut impl Iterator<Item = f64>,
        stored: impl Fn(f64) -> [u8; N],
    ) {
        let places = bytes.as_chunks_mut().0.iter_mut().step_by(run.step).take(run.count);
        // Places come first in the pair: where they end, no value is lost.
        places.zip(values).for_each(|(to, value)| *to = stored(value));
    }
    match dtype {
        DType::F16 => each(bytes, run, values, |value| f16::from_f64(value).to_le_bytes()),
        DType::BF16 => each(bytes, run, values, |value| bf16::from_f64(value).to_le_bytes()),
        _ => each(bytes, run, values, |value| (value as f32).to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::Batch;
    use crate::file::store;
    use wgpu_batchnorm::ndarray::{ArrayD, Axis, Slice};
    use wgpu_batchnorm::{DType, Layout, Problem, Result};

    /// Returns a batch whose values are their positions.
    fn batch(shape: &[usize], layout: Layout, dtype: DType) -> Result<(Batch, ArrayD<f32>)> {
        let values = ArrayD::from_shape_fn(shape, |index| {
            shape.iter().enumerate().fold(0, |position, (k, size)| position * size + index[k]) as f32
        });
        let mut data = Vec::new();
        store(&mut data, dtype, values.iter().map(|&value| f64::from(value)));
        Ok((Batch::new(shape.to_vec(), &Problem::new(shape, layout)?, dtype, data), values))
    }

    #[test]
    fn parts_and_pieces_are_those_of_the_array() -> Result<()> {
        for (shape, layout) in [
            (&[2, 3, 2, 4][..], Layout::ChannelsFirst),
            (&[5, 3], Layout::ChannelsFirst),
            (&[1, 1, 9], Layout::ChannelsFirst),
            (&[2, 2, 4, 3], Layout::ChannelsLast),
            (&[7, 1], Layout::ChannelsLast),
            (&[0, 3, 4], Layout::ChannelsFirst),
            (&[0, 4, 3], Layout::ChannelsLast),
        ] {
            for dtype in DType::ALL {
                let (mut batch, mut values) = batch(shape, layout, dtype)?;
                let axis = Axis(layout.channel_axis(shape.len()));
                let channels = shape[axis.0];
                for block in [0..1, channels - 1..channels, 0..channels] {
                    let part = values.slice_axis(axis, Slice::from(block.clone()));
                    assert_eq!(batch.part(axis, &block), part);
                }
                for channel in 0..channels {
                    let all: Vec<f32> = values.index_axis(axis, channel).iter().copied().collect();
                    let n = batch.of_channel();
                    assert_eq!(all.len(), n);
                    let copy = batch.channel(channel, axis);
                    for begin in 0..n {
                        for range in (begin..=n).map(|end| begin..end) {
                            assert_eq!(batch.piece(channel, &range), all[range.clone()]);
                            assert_eq!(copy.piece(0, &range), all[range.clone()]);
                        }
                    }
                    // A piece is replaced, and nothing else.
                    let range = n / 3..(2 * n).div_ceil(3);
                    let new: Vec<f64> = range.clone().map(|k| -(k as f64)).collect();
                    batch.put_piece(channel, &range, &new);
                    let mut view = values.index_axis_mut(axis, channel);
                    view.iter_mut().skip(range.start).zip(&new).for_each(|(value, &new)| *value = new as f32);
                    assert_eq!(batch.part(axis, &(0..channels)), values);
                    // The copy has the values from before.
                    batch.put_part(&(channel..channel + 1), &copy.data);
                    values
                        .index_axis_mut(axis, channel)
                        .iter_mut()
                        .zip(all)
                        .for_each(|(value, old)| *value = old);
                    assert_eq!(batch.part(axis, &(0..channels)), values);
                }
            }
        }
        Ok(())
    }
}
