//! The exact results of a channel that is too large to be held in f64, a piece at a time.
//!
//! Mean, variance and the sums of backward are those of all pieces. What is left to do is done for each element by
//! itself, by the same functions of the reference as for a whole batch.

use super::exact::{Contribution, plain_scales, unsure, widen};
use super::judge::judge_step;
use super::{Case, CheckReport, GradientScales, Step, StepGradients, TOLERANCE, largest};
use crate::reference::{BatchNorm, Factors, Statistics, Sums};
use crate::state::BatchNormState;
use ndarray::{Array1, Array2, arr1};
use std::ops::Range;

/// The values of one channel, in the order of its batches. Each range is read several times.
pub trait ChannelValues {
    /// Returns the number of steps.
    fn steps(&self) -> usize;

    /// Returns the number of values in a step.
    fn len(&self, step: usize) -> usize;

    /// Returns a range of x.
    fn x(&self, step: usize, range: Range<usize>) -> Vec<f32>;

    /// Returns a range of the residual, if something is added.
    fn residual(&self, step: usize, range: Range<usize>) -> Option<Vec<f32>>;

    /// Returns a range of dy, unless only forward passes run.
    fn dy(&self, step: usize, range: Range<usize>) -> Option<Vec<f32>>;
}

/// The exact results of one channel, of which only a piece is in memory. They are those of
/// [`Reference`](super::Reference) on the whole channel, but for the last digits of sums of gradients, as these are
/// taken in another order.
#[derive(Debug)]
pub struct LongChannel {
    case: Case,
    layer: BatchNorm,
    steps: Vec<WholeStep>,
}

/// What is known of all values of a step before its pieces are computed.
#[derive(Debug)]
struct WholeStep {
    factors: Factors,
    n: usize,
    /// The results that have one value per channel. y is empty.
    results: Step,
    largest_y: f64,
    backward: Option<WholeBackward>,
}

#[derive(Debug)]
struct WholeBackward {
    sums: Sums,
    scales: GradientScales,
    /// How far from a corner of the activation an element may be to be unsure.
    near: f64,
}

impl LongChannel {
    /// Takes the statistics, sums and scales of all steps, in several passes over pieces of this size. `case` and
    /// `state` have one channel.
    ///
    /// # Errors
    /// As the reference: see [`BatchNorm::forward`](crate::reference::BatchNorm::forward).
    pub fn new(
        case: &Case,
        state: &BatchNormState,
        values: &impl ChannelValues,
        piece: usize,
    ) -> crate::error::Result<Self> {
        let mut layer = BatchNorm::with_state(case.config.clone(), state)?;
        if !case.training {
            layer.eval();
        }
        let mut steps = Vec::new();
        for step in 0..values.steps() {
            let n = values.len(step);
            layer.config().problem(&[n, 1], layer.config().layout, case.training.into())?;
            let batch = (layer.config().uses_batch_statistics(case.training.into()) && n > 0)
                .then(|| statistics(values, step, piece));
            let factors = layer.begin(batch, n);
            let results = Step {
                y: Array1::zeros(0).into_dyn(),
                batch_mean: factors.batch.as_ref().map(|batch| batch.mean.clone()),
                batch_var: factors.batch.as_ref().map(|batch| batch.var.clone()),
                running_mean: layer.running_mean().cloned(),
                running_var: layer.running_var().cloned(),
                num_batches_tracked: layer.num_batches_tracked(),
                gradients: None,
            };
            let mut whole = WholeStep { factors, n, results, largest_y: 0.0, backward: None };
            whole.take_sums(&layer, values, step, piece);
            steps.push(whole);
        }
        Ok(Self { case: case.clone(), layer, steps })
    }

    /// Returns the exact results of a piece, `[n, 1]`. Those with one value per channel, and the scales of gradients,
    /// are of the whole step.
    pub fn piece(&self, values: &impl ChannelValues, step: usize, range: Range<usize>) -> Step {
        let WholeStep { factors, n, results, backward, .. } = &self.steps[step];
        let residual = values.residual(step, range.clone()).map(column);
        let (y, saved) = self.layer.apply(
            factors.clone(),
            column(values.x(step, range.clone())).view(),
            residual.as_ref().map(|residual| residual.view()),
        );
        let mut results = Step { y: y.into_dyn(), ..results.clone() };
        if let (Some(dy), Some(WholeBackward { sums, scales, near })) = (values.dy(step, range), backward) {
            let dresidual = self.layer.before_activation_gradient(&saved, column(dy).view());
            results.gradients = Some(StepGradients {
                dx: self.layer.input_gradient(&saved, sums, *n, dresidual.view()).into_dyn(),
                dweight: self.layer.weight().map(|_| sums.dweight.clone()),
                dbias: self.layer.bias().map(|_| sums.dbias.clone()),
                dresidual: saved.is_sum.then(|| dresidual.into_dyn()),
                scales: GradientScales { unsure: unsure(&self.layer, &saved, *near), ..scales.clone() },
            });
        }
        results
    }

    /// Compares the results of a piece with the exact ones, as [`judge`](super::judge) does with the whole channel.
    pub fn judge(&self, step: usize, actual: &Step, exact: &Step) -> CheckReport {
        let mut report =
            CheckReport { case: self.case.name.clone(), errors: Vec::new(), mismatches: Vec::new() };
        judge_step(&mut report, &self.case, step, (actual, exact), self.steps[step].largest_y);
        report
    }
}

impl WholeStep {
    /// Takes the sums of backward, and the scales of all results.
    fn take_sums(&mut self, layer: &BatchNorm, values: &impl ChannelValues, step: usize, piece: usize) {
        let apply = |range: Range<usize>| {
            let residual = values.residual(step, range.clone()).map(column);
            let x = column(values.x(step, range));
            layer.apply(self.factors.clone(), x.view(), residual.as_ref().map(|residual| residual.view()))
        };
        let mut sums = Sums { dweight: Array1::zeros(1), dbias: Array1::zeros(1) };
        let (mut scales, mut backward) = (GradientScales::default(), false);
        let (mut largest_y, mut largest_u, mut largest_x_hat) = (0.0, 0.0, 0.0);
        for range in pieces(self.n, piece) {
            let (y, saved) = apply(range.clone());
            largest_y = f64::max(largest_y, largest(y.view()));
            let Some(dy) = values.dy(step, range) else { continue };
            backward = true;
            largest_u = f64::max(largest_u, largest(saved.activated.view()));
            largest_x_hat = f64::max(largest_x_hat, largest(saved.x_hat.view()));
            let dresidual = layer.before_activation_gradient(&saved, column(dy).view()).into_dyn();
            let of_piece = layer.sums(&saved, dresidual.view());
            sums.dweight += &of_piece.dweight;
            sums.dbias += &of_piece.dbias;
            let of_piece = plain_scales(layer, &saved, &dresidual);
            scales.dx = scales.dx.max(of_piece.dx);
            scales.dresidual = scales.dresidual.max(of_piece.dresidual);
            scales.dweight += of_piece.dweight;
            scales.dbias += of_piece.dbias;
        }
        self.largest_y = largest_y;
        if !backward {
            return;
        }
        let near = TOLERANCE * largest_u;
        if !layer.config().activation.corners().0.is_empty() {
            let mut whole = Contribution { x_hat: largest_x_hat, n: self.n, ..Contribution::default() };
            for range in pieces(self.n, piece) {
                let saved = apply(range.clone()).1;
                let (Some(unsure), Some(dy)) = (unsure(layer, &saved, near), values.dy(step, range)) else {
                    continue;
                };
                let of_piece = Contribution::new(layer, &saved, 0, &unsure, &column(dy).into_dyn());
                whole.dbias += of_piece.dbias;
                whole.dweight += of_piece.dweight;
            }
            widen(&mut scales, layer, self.factors.inv_std.view(), &[whole]);
        }
        let sums = sums.complete(&self.factors);
        self.backward = Some(WholeBackward { sums, scales, near });
    }
}

/// Returns mean and biased variance of x, in two passes, as the reference takes them.
fn statistics(values: &impl ChannelValues, step: usize, piece: usize) -> Statistics {
    let n = values.len(step);
    let x = || pieces(n, piece).flat_map(|range| values.x(step, range)).map(f64::from);
    let mean = x().sum::<f64>() / n as f64;
    let var = x().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
    Statistics { mean: arr1(&[mean]), var: arr1(&[var]) }
}

/// Divides this number of values into pieces. No values are one piece, too.
pub fn pieces(n: usize, piece: usize) -> impl Iterator<Item = Range<usize>> {
    let piece = piece.max(1);
    (0..n.max(1)).step_by(piece).map(move |begin| begin..(begin + piece).min(n))
}

/// Returns values as a batch of one channel, in either layout.
fn column(values: Vec<f32>) -> Array2<f64> {
    let values: Array1<f64> = values.into_iter().map(f64::from).collect();
    values.insert_axis(ndarray::Axis(1))
}

#[cfg(test)]
mod tests {
    use super::{ChannelValues, LongChannel, pieces};
    use crate::activation::Activation;
    use crate::error::Result;
    use crate::state::BatchNormState;
    use crate::verify::{Case, Implementation, Inputs, Outputs, Reference, Step, judge, table};
    use ndarray::{Array1, ArrayD, Axis, Slice, arr1, arr2};
    use std::ops::Range;

    impl ChannelValues for Inputs {
        fn steps(&self) -> usize {
            self.xs.len()
        }

        fn len(&self, step: usize) -> usize {
            self.xs[step].len()
        }

        fn x(&self, step: usize, range: Range<usize>) -> Vec<f32> {
            self.xs[step].iter().copied().skip(range.start).take(range.len()).collect()
        }

        fn residual(&self, step: usize, range: Range<usize>) -> Option<Vec<f32>> {
            self.residuals
                .get(step)
                .map(|residual| residual.iter().copied().skip(range.start).take(range.len()).collect())
        }

        fn dy(&self, step: usize, range: Range<usize>) -> Option<Vec<f32>> {
            self.dys.get(step).map(|dy| dy.iter().copied().skip(range.start).take(range.len()).collect())
        }
    }

    /// Returns a case of one channel, and its data: a channel of another case.
    fn one_channel(case: &Case, c: usize) -> (Case, Inputs) {
        let (mut inputs, mut part) = (case.inputs(), case.clone());
        let axis = Axis(case.config.layout.channel_axis(case.shape.len()));
        let slice = Slice::from(c..=c);
        for tensors in [&mut inputs.xs, &mut inputs.dys, &mut inputs.residuals] {
            tensors.iter_mut().for_each(|tensor| *tensor = tensor.slice_axis(axis, slice).to_owned());
        }
        let state = &mut inputs.state;
        for values in [&mut state.weight, &mut state.bias, &mut state.running_mean, &mut state.running_var] {
            *values = values.as_ref().map(|values| values.slice_axis(Axis(0), slice).to_owned());
        }
        part.shape[axis.0] = 1;
        part.config.num_features = 1;
        (part, inputs)
    }

    /// Puts pieces together. Each must have the same results with one value per channel.
    fn whole(pieces: &[Step], like: &Step) -> Step {
        let tensor = |tensors: Vec<&ArrayD<f64>>| {
            let values: Array1<f64> = tensors.into_iter().flatten().copied().collect();
            values.into_shape_with_order(like.y.raw_dim()).expect("all values are there")
        };
        let mut whole = pieces[0].clone();
        whole.y = tensor(pieces.iter().map(|piece| &piece.y).collect());
        if let Some(gradients) = &mut whole.gradients {
            let parts = || pieces.iter().filter_map(|piece| piece.gradients.as_ref());
            gradients.dx = tensor(parts().map(|part| &part.dx).collect());
            gradients.dresidual = gradients
                .dresidual
                .is_some()
                .then(|| tensor(parts().flat_map(|part| &part.dresidual).collect()));
            gradients.scales.unsure = None;
        }
        whole
    }

    /// Compares the pieces of one channel with the whole. Returns whether an element is near a corner.
    fn compare(case: &Case, inputs: &Inputs, piece: usize) -> Result<bool> {
        let about = format!("{}, pieces of {piece}", case.name);
        let bits = |values: &ArrayD<f64>| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let exact = Reference.run(case, inputs)?;
        let long = LongChannel::new(case, &inputs.state, inputs, piece)?;
        let (mut actual, mut is_unsure) = (Vec::new(), false);
        for (k, step) in exact.steps.iter().enumerate() {
            let ranges = pieces(inputs.len(k), piece);
            let parts: Vec<Step> = ranges.map(|range| long.piece(inputs, k, range)).collect();
            assert!(parts.iter().all(|part| long.judge(k, part, part).passed()));
            let found = whole(&parts, step);
            assert_eq!(bits(&found.y), bits(&step.y), "{about}");
            let vectors = |step: &Step| {
                [&step.batch_mean, &step.batch_var, &step.running_mean, &step.running_var]
                    .map(|vector| vector.as_ref().map(|vector| vector[0].to_bits()))
            };
            assert_eq!(vectors(&found), vectors(step), "{about}");
            assert_eq!(found.num_batches_tracked, step.num_batches_tracked, "{about}");
            if let (Some(found), Some(exact)) = (&found.gradients, &step.gradients) {
                let [found, exact_scales] = [&found.scales, &exact.scales]
                    .map(|scales| [scales.dx, scales.dresidual, scales.dweight, scales.dbias]);
                for (found, exact) in found.into_iter().zip(exact_scales) {
                    assert!((found - exact).abs() <= 1e-13 * exact, "{found} {exact}: {about}");
                }
                let masks = parts.iter().flat_map(|part| &part.gradients).map(|part| {
                    let sure = || vec![false; part.dx.len()];
                    part.scales.unsure.as_ref().map_or_else(sure, |mask| mask.iter().copied().collect())
                });
                let mask = masks.flatten().collect::<Vec<bool>>();
                let unsure = exact.scales.unsure.as_ref();
                assert!(unsure.map_or(!mask.contains(&true), |unsure| unsure.iter().eq(&mask)), "{about}");
                is_unsure |= unsure.is_some();
            }
            actual.push(found);
        }
        let report = judge(case, &Outputs { steps: actual }, &exact);
        assert!(report.passed() && report.worst() < 1e-13, "{about}: {report}");
        Ok(is_unsure)
    }

    #[test]
    fn pieces_are_the_channel() -> Result<()> {
        let cases = table().into_iter().filter(|case| case.shape.iter().product::<usize>() < 6_000);
        let mut compared = 0;
        for case in cases {
            let (case, inputs) = one_channel(&case, case.poison.map_or(0, |(channel, _)| channel));
            for piece in [7, 64, 100_000] {
                compare(&case, &inputs, piece)?;
                compared += 1;
            }
        }
        assert!(compared > 300, "{compared} comparisons");
        Ok(())
    }

    #[test]
    fn elements_near_a_corner_are_those_of_the_channel() -> Result<()> {
        for activation in [Activation::Relu, Activation::Relu6] {
            let case = Case::new("corners", &[50, 1]).eval().with(|config| config.activation(activation));
            let mut inputs = case.inputs();
            inputs.state = BatchNormState::new(&case.config);
            inputs.xs[0][[3, 0]] = 1e-8;
            inputs.xs[0][[29, 0]] = 6.00003;
            for piece in [1, 7, 20, 50] {
                assert!(compare(&case, &inputs, piece)?);
            }
        }
        Ok(())
    }

    /// Where inv_std is infinite, the terms of dweight are, too. Those of a piece may have another sign than the sum.
    #[test]
    fn an_infinite_inv_std_multiplies_the_sum_of_all_pieces() -> Result<()> {
        let case = Case::new("no variance", &[4, 1]).eval().with(|config| config.eps(0.0));
        let mut inputs = case.inputs();
        inputs.state =
            BatchNormState { running_var: Some(arr1(&[0.0])), ..BatchNormState::new(&case.config) };
        inputs.xs[0] = arr2(&[[1.0], [2.0], [-3.0], [-4.0]]).into_dyn();
        inputs.dys[0] = arr2(&[[1.0], [1.0], [0.5], [0.25]]).into_dyn();
        let exact = Reference.run(&case, &inputs)?;
        let long = LongChannel::new(&case, &inputs.state, &inputs, 2)?;
        let dweight = |step: &Step| step.gradients.as_ref().and_then(|gradients| gradients.dweight.clone());
        assert_eq!(dweight(&exact.steps[0]), Some(arr1(&[f64::INFINITY])));
        assert_eq!(dweight(&long.piece(&inputs, 0, 0..2)), dweight(&exact.steps[0]));
        Ok(())
    }

    /// An error in one piece is seen by the scale of all of them.
    #[test]
    fn a_piece_is_judged_by_the_scale_of_the_channel() -> Result<()> {
        let case = Case::new("one channel", &[40, 1]);
        let mut inputs = case.inputs();
        inputs.xs[0][[39, 0]] = 1e6;
        let long = LongChannel::new(&case, &inputs.state, &inputs, 10)?;
        let exact = long.piece(&inputs, 0, 0..10);
        let largest = Reference.run(&case, &inputs)?.steps[0].y.iter().fold(0.0, |a, b| f64::max(a, b.abs()));
        for (error, passes) in [(0.9e-6, true), (1.1e-6, false)] {
            let mut actual = exact.clone();
            actual.y[[3, 0]] += error * largest;
            let report = long.judge(0, &actual, &exact);
            assert_eq!(report.passed(), passes, "{report}");
        }
        Ok(())
    }
}
