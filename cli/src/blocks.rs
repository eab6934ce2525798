//! Blocks of channels. Channels do not depend on each other, so a block is computed and checked as a case of its own.

use std::ops::Range;
use wgpu_batchnorm::BatchNormState;
use wgpu_batchnorm::ndarray::{ArrayD, Axis, Slice};
use wgpu_batchnorm::verify::{Case, Inputs};

/// Returns the axis of the channels.
pub(crate) fn axis(case: &Case) -> Axis {
    Axis(case.config.layout.channel_axis(case.shape.len()))
}

/// Divides the channels into blocks of at most this number of elements, or of one channel where that has more.
pub(crate) fn blocks(
    channels: usize,
    of_channel: usize,
    elements: usize,
) -> impl Iterator<Item = Range<usize>> {
    let of_block = (elements / of_channel.max(1)).clamp(1, channels.max(1));
    (0..channels).step_by(of_block).map(move |begin| begin..(begin + of_block).min(channels))
}

/// Returns the case and its data on a block of channels.
pub(crate) fn part(case: &Case, inputs: &Inputs, block: &Range<usize>) -> (Case, Inputs) {
    let (axis, slice) = (axis(case), Slice::from(block.clone()));
    let tensors = |all: &[ArrayD<f32>]| all.iter().map(|x| x.slice_axis(axis, slice).to_owned()).collect();
    let (xs, dys, residuals) = (tensors(&inputs.xs), tensors(&inputs.dys), tensors(&inputs.residuals));
    (case_of(case, block), Inputs { xs, dys, residuals, state: state_of(&inputs.state, block) })
}

/// Returns the case on a block of channels.
pub(crate) fn case_of(case: &Case, block: &Range<usize>) -> Case {
    let axis = axis(case);
    let mut case = case.clone();
    case.shape[axis.0] = block.len();
    case.config.num_features = block.len();
    case
}

/// Returns the parameters and running statistics of a block of channels.
pub(crate) fn state_of(state: &BatchNormState, block: &Range<usize>) -> BatchNormState {
    let slice = Slice::from(block.clone());
    let mut state = state.clone();
    for values in [&mut state.weight, &mut state.bias, &mut state.running_mean, &mut state.running_var] {
        *values = values.as_ref().map(|values| values.slice_axis(Axis(0), slice).to_owned());
    }
    state
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn blocks_have_at_most_so_many_elements() {
        assert!(blocks(5, 10, 20).eq([0..2, 2..4, 4..5]));
        assert!(blocks(5, 10, 1000).eq(std::iter::once(0..5)));
        // A channel is not divided, and an empty batch has channels, too.
        assert!(blocks(3, 10, 1).eq([0..1, 1..2, 2..3]));
        assert!(blocks(3, 0, 2).eq([0..2, 2..3]));
    }
}
