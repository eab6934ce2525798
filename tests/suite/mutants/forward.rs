//! Mutants of the forward pass, by flat indices in f64.

use super::*;
use wgpu_batchnorm::ndarray::{ArrayD, IxDyn};
use wgpu_batchnorm::verify::Step;
use wgpu_batchnorm::{Problem, Result};

const Y: &[&str] = &["y"];
const RUNNING: &[&str] = &["running_mean", "running_var"];
const RUNNING_VAR: &[&str] = &["running_var"];
const STATISTICS: &[&str] = &["batch_mean", "batch_var", "running_mean", "running_var", "y"];

faults! {
    // The statistics.
    /// The last value of each channel is left out.
    LastValueDropped => STATISTICS,
    /// Values that do not fill a tile of 64 are left out.
    LastTileDropped => STATISTICS,
    /// Only the first image counts.
    FirstImageOnly => STATISTICS,
    /// Only the first 1024 values count.
    LoopEndsEarly => STATISTICS,
    /// The sum is right, but divided by one value too many.
    DividedByOneMore => STATISTICS,
    /// Channels are taken for images, and images for channels.
    ImagesAndChannelsSwapped => STATISTICS,
    /// Channels-last memory is read as channels-first.
    LayoutIgnored => STATISTICS,
    /// Channels from 256 on are not computed.
    ChannelsBeyond256Dropped => STATISTICS,
    /// E[x²] − E[x]² in f32, though both sums are exact.
    OnePassInF32 => &["batch_var", "running_var", "y"],
    /// E[x²] − E[x]² in f64, but with the mean as f32.
    SquareOfRoundedMean => &["batch_var", "running_var", "y"],

    // The output.
    /// Normalises with the unbiased variance.
    UnbiasedOutput => Y,
    /// 1 / (sqrt(var) + eps).
    EpsOutsideRoot => Y,
    /// 1 / sqrt(var).
    EpsForgotten => Y,
    /// 1 / sqrt(max(var, eps)).
    EpsAsFloor => Y,
    /// eps is always 1e-5.
    EpsIgnored => Y,
    /// 1 / (var + eps).
    RootForgotten => Y,
    /// y = x_hat + bias.
    WeightDropped => Y,
    /// y = x_hat·weight.
    BiasDropped => Y,
    /// y = (x_hat + bias)·weight.
    BiasBeforeWeight => Y,
    /// Without a weight, the bias is taken for 0.
    BiasNeedsWeight => Y,
    /// Without a bias, the weight is taken for 1.
    WeightNeedsBias => Y,
    /// Each channel has the weight and bias of the next one.
    NeighbourParameters => Y,
    /// Everything is 0.
    Zeros => Y,
    /// The last element is never written: 0.
    LastElementUnwritten => Y,
    /// The last element is never written: NaN, as the tests poison their buffers.
    LastElementPoisoned => Y,
    /// One element in the middle is NaN.
    OneNan => Y,
    /// A NaN or infinity anywhere makes everything NaN.
    NanSpreads => Y,
    /// max(x, lowest number) loses a NaN, as some GPUs' `max` does.
    NanLost => Y,
    /// x·a + b in f32 with a = weight·inv_std, b = bias − mean·a.
    ScaleAndShiftInF32 => Y,
    /// The mean is rounded to f32 before it is subtracted.
    MeanRoundedToF32 => Y,
    /// Results are rounded to multiples of 2⁻¹¹.
    HalfPrecision => Y,

    // The mode.
    /// eval normalises with the batch statistics.
    EvalUsesBatch => Y,
    /// Training normalises with the running statistics.
    TrainingUsesRunning => Y,
    /// eval without running statistics takes mean 0 and variance 1.
    UntrackedEvalUsesInitial => Y,
    /// The running statistics move in eval too, so that the next batch is normalised differently.
    EvalMovesRunning => &["running_mean", "running_var", "y"],
    /// eval counts the batch.
    EvalCounts => &["num_batches_tracked"],

    // The running statistics.
    /// running_var moves with the biased variance.
    BiasedRunningVar => RUNNING_VAR,
    /// running_var moves with inv_std.
    InvStdInRunningVar => RUNNING_VAR,
    /// running_var moves with the standard deviation.
    StdInRunningVar => RUNNING_VAR,
    /// running_var moves with the variance plus eps.
    EpsInRunningVar => RUNNING_VAR,
    /// momentum has the meaning of ONNX and Keras: 1 − m.
    MomentumReversed => RUNNING,
    /// momentum None is taken for 0.1.
    NoMomentumIsDefault => RUNNING,
    /// momentum 0 is taken for 0.1, as `momentum or 0.1` does.
    ZeroMomentumIsDefault => RUNNING,
    /// momentum None is 1 / (number of batches before this one).
    CountedTooLate => RUNNING,
    /// The running statistics are replaced, whatever the momentum.
    RunningReplaced => RUNNING,
    /// Each step starts from the running statistics before the first.
    StepsForgotten => RUNNING,
    /// num_batches_tracked stays.
    NotCounted => &["num_batches_tracked"],
    /// The option skip_non_finite does nothing.
    SkipIgnored => RUNNING,
    /// skip_non_finite skips every channel if one is not finite.
    SkipAllChannels => RUNNING,
    /// Channels that are not finite are always skipped.
    SkipAlways => RUNNING,
    /// An empty batch moves the running statistics, to 0/0.
    EmptyBatchMoves => RUNNING,
    /// An empty batch is not counted.
    EmptyBatchNotCounted => &["num_batches_tracked"],

    // Presence of results.
    /// Batch statistics are missing.
    BatchStatisticsMissing => &["batch_mean", "batch_var"],
    /// The running mean is missing.
    RunningMeanMissing => &["running_mean"],
    /// y is flattened.
    WrongShape => Y,
    /// The last step is left out.
    LastStepMissing => &["steps"],
}

/// Batch norm with a fault.
struct Mutant(Fault);

/// Mean and biased variance of one channel.
type Moments = (f64, f64);

impl Mutant {
    fn is(&self, fault: Fault) -> bool {
        self.0 == fault
    }

    /// Returns mean and biased variance of one channel's values.
    fn moments(&self, case: &Case, values: &[f64]) -> Moments {
        let n = values.len();
        let values = match self.0 {
            Fault::LastValueDropped => &values[..n - 1],
            Fault::LastTileDropped if n > 64 => &values[..n / 64 * 64],
            Fault::FirstImageOnly => &values[..n / case.shape[0]],
            Fault::LoopEndsEarly => &values[..n.min(1024)],
            _ => values,
        };
        let n = (values.len() + usize::from(self.is(Fault::DividedByOneMore))) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let var = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        if self.is(Fault::OnePassInF32) {
            let squares = values.iter().map(|x| x.powi(2)).sum::<f64>() / n;
            let var = f64::from(squares as f32 - (mean * mean) as f32);
            // Not `max`, which would lose a NaN.
            return (mean, if var < 0.0 { 0.0 } else { var });
        }
        if self.is(Fault::SquareOfRoundedMean) && mean.is_finite() {
            return (mean, (var + mean * mean - f64::from(mean as f32).powi(2)).max(0.0));
        }
        (mean, var)
    }

    /// Returns 1 / sqrt(var + eps).
    fn inv_std(&self, case: &Case, var: f64) -> f64 {
        let eps = case.config.eps;
        match self.0 {
            Fault::EpsOutsideRoot => 1.0 / (var.sqrt() + eps),
            Fault::EpsForgotten => 1.0 / var.sqrt(),
            Fault::EpsAsFloor if var.is_finite() => 1.0 / var.max(eps).sqrt(),
            Fault::EpsIgnored => 1.0 / (var + 1e-5).sqrt(),
            Fault::RootForgotten => 1.0 / (var + eps),
            _ => 1.0 / (var + eps).sqrt(),
        }
    }

    /// Returns y of one element.
    fn normalise(&self, x: f64, (mean, inv_std): Moments, weight: f64, bias: f64) -> f64 {
        match self.0 {
            Fault::WeightDropped => (x - mean) * inv_std + bias,
            Fault::BiasDropped => (x - mean) * inv_std * weight,
            Fault::BiasBeforeWeight => ((x - mean) * inv_std + bias) * weight,
            Fault::Zeros => 0.0,
            Fault::NanLost => ((x - mean) * inv_std * weight + bias).max(-3e38),
            Fault::ScaleAndShiftInF32 => {
                let a = (weight * inv_std) as f32;
                let b = (bias - mean * weight * inv_std) as f32;
                f64::from(x as f32 * a + b)
            }
            Fault::MeanRoundedToF32 => (x - f64::from(mean as f32)) * inv_std * weight + bias,
            _ => (x - mean) * inv_std * weight + bias,
        }
    }

    /// Returns the weight of the batch in the running statistics. `count` includes this batch.
    fn momentum(&self, case: &Case, count: u64) -> f64 {
        match (self.0, case.config.momentum) {
            (Fault::RunningReplaced, _) => 1.0,
            (Fault::NoMomentumIsDefault, None) => 0.1,
            (Fault::CountedTooLate, None) => 1.0 / (count - 1) as f64,
            (_, None) => 1.0 / count as f64,
            (Fault::ZeroMomentumIsDefault, Some(0.0)) => 0.1,
            (Fault::MomentumReversed, Some(m)) => 1.0 - m,
            (_, Some(m)) => m,
        }
    }

    /// Returns the variance that running_var moves with.
    fn variance_to_track(&self, case: &Case, var: f64, n: f64) -> f64 {
        let unbiased = var * n / (n - 1.0);
        match self.0 {
            Fault::BiasedRunningVar => var,
            Fault::InvStdInRunningVar => self.inv_std(case, var),
            Fault::StdInRunningVar => unbiased.sqrt(),
            Fault::EpsInRunningVar => unbiased + case.config.eps,
            _ => unbiased,
        }
    }

    fn skips(&self, case: &Case, moments: &[Moments], c: usize) -> bool {
        let finite = |(mean, var): Moments| mean.is_finite() && var.is_finite();
        match self.0 {
            Fault::SkipIgnored => false,
            Fault::SkipAlways => !finite(moments[c]),
            Fault::SkipAllChannels => {
                case.config.skip_non_finite && !moments.iter().all(|&moments| finite(moments))
            }
            _ => case.config.skip_non_finite && !finite(moments[c]),
        }
    }
}

impl Mutated for Mutant {
    fn outputs(&self, case: &Case, inputs: &Inputs, right: &Outputs) -> Result<Outputs> {
        let problem = Problem::new(&case.shape, case.config.layout)?;
        let channels = problem.channels();
        let n = problem.values_per_channel();
        let (swapped, ignored) = (self.is(Fault::ImagesAndChannelsSwapped), self.is(Fault::LayoutIgnored));
        let channel_of = channel_of(case, &problem, swapped, ignored);
        let state = &inputs.state;
        let mut weight = exact(&state.weight, 1.0, channels);
        let mut bias = exact(&state.bias, 0.0, channels);
        match self.0 {
            Fault::BiasNeedsWeight if state.weight.is_none() => bias.fill(0.0),
            Fault::WeightNeedsBias if state.bias.is_none() => weight.fill(1.0),
            _ => {}
        }
        let initial = [exact(&state.running_mean, 0.0, channels), exact(&state.running_var, 1.0, channels)];
        let [mut running_mean, mut running_var] = initial.clone();
        let track = case.config.track_running_stats;
        let mut count = inputs.state.num_batches_tracked.unwrap_or(0);

        let mut steps = Vec::new();
        for (x, right) in inputs.xs.iter().zip(&right.steps) {
            let x: Vec<f64> = x.iter().map(|&value| f64::from(value)).collect();
            let mut values = vec![Vec::with_capacity(n); channels];
            for (k, &x) in x.iter().enumerate() {
                values[channel_of(k)].push(x);
            }
            let mut moments: Vec<Moments> = if n == 0 {
                Vec::new()
            } else {
                values.iter().map(|values| self.moments(case, values)).collect()
            };
            if self.is(Fault::ChannelsBeyond256Dropped) {
                moments.iter_mut().skip(256).for_each(|moments| *moments = (0.0, 0.0));
            }
            let uses_batch = case.training || !track;

            let normalise_by_batch = match self.0 {
                Fault::EvalUsesBatch if n > 1 => true,
                Fault::TrainingUsesRunning if track => false,
                Fault::UntrackedEvalUsesInitial if !case.training => false,
                _ => uses_batch,
            };
            let used: Vec<Moments> = if normalise_by_batch {
                moments.clone()
            } else {
                running_mean.iter().copied().zip(running_var.iter().copied()).collect()
            };
            let bessel =
                if self.is(Fault::UnbiasedOutput) && uses_batch { n as f64 / (n as f64 - 1.0) } else { 1.0 };
            let used: Vec<Moments> =
                used.into_iter().map(|(mean, var)| (mean, self.inv_std(case, var * bessel))).collect();
            let parameter =
                |c: usize| if self.is(Fault::NeighbourParameters) { (c + 1) % channels } else { c };
            let mut y: Vec<f64> = (x.iter().enumerate())
                .map(|(k, &x)| {
                    let c = channel_of(k);
                    round(self.normalise(x, used[c], weight[parameter(c)], bias[parameter(c)]))
                })
                .collect();
            let half = y.len() / 2;
            match self.0 {
                Fault::LastElementUnwritten => y.iter_mut().rev().take(1).for_each(|y| *y = 0.0),
                Fault::LastElementPoisoned => y.iter_mut().rev().take(1).for_each(|y| *y = f64::NAN),
                Fault::OneNan => y.iter_mut().skip(half).take(1).for_each(|y| *y = f64::NAN),
                Fault::NanSpreads if y.iter().any(|y| !y.is_finite()) => y.fill(f64::NAN),
                Fault::HalfPrecision => y.iter_mut().for_each(|y| *y = (*y * 2048.0).round() / 2048.0),
                _ => {}
            }

            let moves = case.training || self.is(Fault::EvalMovesRunning);
            let counts = case.training && !(n == 0 && self.is(Fault::EmptyBatchNotCounted));
            count += u64::from(counts || self.is(Fault::EvalCounts));
            if moves && n == 0 && self.is(Fault::EmptyBatchMoves) {
                running_mean.fill(f64::NAN);
                running_var.fill(f64::NAN);
            }
            if moves && n > 1 {
                if self.is(Fault::StepsForgotten) {
                    [running_mean, running_var] = initial.clone();
                }
                let m = self.momentum(case, count);
                for (c, &(mean, var)) in moments.iter().enumerate() {
                    if self.skips(case, &moments, c) {
                        continue;
                    }
                    let var = self.variance_to_track(case, var, n as f64);
                    running_mean[c] = round((1.0 - m) * running_mean[c] + m * mean);
                    running_var[c] = round((1.0 - m) * running_var[c] + m * var);
                }
            }

            let has_batch = uses_batch && n > 0 && !self.is(Fault::BatchStatisticsMissing);
            let shape = if self.is(Fault::WrongShape) { &[y.len()] } else { case.shape.as_slice() };
            let shown = if self.is(Fault::NotCounted) {
                inputs.state.num_batches_tracked.unwrap_or(0)
            } else {
                count
            };
            steps.push(Step {
                y: ArrayD::from_shape_vec(IxDyn(shape), y).expect("one value for each element of x"),
                batch_mean: has_batch.then(|| vector(moments.iter().map(|moments| moments.0))),
                batch_var: has_batch.then(|| vector(moments.iter().map(|moments| moments.1))),
                running_mean: (track && !self.is(Fault::RunningMeanMissing))
                    .then(|| vector(running_mean.iter().copied())),
                running_var: track.then(|| vector(running_var.iter().copied())),
                num_batches_tracked: track.then_some(shown),
                // These are faults of the forward pass: the gradients are right.
                gradients: right.gradients.clone(),
            });
        }
        if self.is(Fault::LastStepMissing) {
            steps.pop();
        }
        Ok(Outputs { steps })
    }
}

#[test]
fn the_control_passes_every_case() -> Result<()> {
    assert_control_passes(plain_cases(), &Mutant(Fault::None))
}

#[test]
fn every_mutant_is_rejected_for_its_fault() -> Result<()> {
    assert_blamed(small_plain_cases(), FAULTS, Mutant)
}

/// These are wrong only for a mean far above the standard deviation. The measure is no stricter than that.
#[test]
fn lost_digits_are_rejected_at_a_large_mean_only() -> Result<()> {
    let faults =
        [Fault::OnePassInF32, Fault::SquareOfRoundedMean, Fault::MeanRoundedToF32, Fault::ScaleAndShiftInF32];
    assert_rejected_at_a_large_mean_only(&faults.map(Mutant))
}
