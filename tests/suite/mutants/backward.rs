//! Mutants of the backward pass, by flat indices in f64. Their forward results are right, so that only the
//! gradients can be blamed.

use super::*;
use wgpu_batchnorm::ndarray::{Array1, ArrayD, IxDyn};
use wgpu_batchnorm::verify::{GradientScales, StepGradients};
use wgpu_batchnorm::{BatchNormConfig, Problem, Result};

const DX: &[&str] = &["dx"];
const DWEIGHT: &[&str] = &["dweight"];
const DBIAS: &[&str] = &["dbias"];
const PARAMETERS: &[&str] = &["dbias", "dweight"];
/// The gradients that depend on x_hat and inv_std.
const OF_X: &[&str] = &["dweight", "dx"];
const ALL: &[&str] = &["dbias", "dweight", "dx"];

faults! {
    // The gradient through the statistics.
    /// dx keeps the mean of dy.
    MeanStays => DX,
    /// dx keeps the slope of dy along x_hat.
    SlopeStays => DX,
    /// Batch statistics are treated as constants.
    StatisticsDetached => DX,
    /// Running statistics are treated as functions of x.
    RunningAttached => DX,
    /// The means are over n − 1.
    UnbiasedMeans => DX,
    /// The means are over n + 1.
    MeansOverOneMore => DX,
    /// The slope is Σ(dy·(x − mean)) / (n·var), without eps.
    SlopeWithoutEps => DX,
    /// The slope is Σ(dy·(x − mean)) / n, not divided by the variance.
    SlopeWithoutVariance => DX,
    /// The slope is added.
    SlopeAdded => DX,
    /// Both means are rounded to the 11 binary digits of an f16.
    MeansInHalf => DX,

    // The scale.
    /// eps is missing in inv_std.
    EpsForgotten => OF_X,
    /// eps is always 1e-5.
    EpsIgnored => OF_X,
    /// inv_std comes from the unbiased variance.
    UnbiasedInvStd => OF_X,
    /// dx = … without weight.
    WeightDropped => DX,
    /// Without a bias, dx = … without weight.
    WeightNeedsBias => DX,
    /// dx = … with the weight's square.
    WeightSquared => DX,
    /// dx = … with the bias in place of the weight.
    BiasForWeight => DX,
    /// dx = … with the next channel's weight.
    NeighbourWeight => DX,
    /// dx = … with inv_std's square.
    InvStdSquared => DX,
    /// dx = … without inv_std.
    InvStdDropped => DX,

    // dweight and dbias.
    /// dweight = Σ dy·x.
    DWeightOfX => DWEIGHT,
    /// dweight = Σ dy·y.
    DWeightOfY => DWEIGHT,
    /// dweight = Σ dy·(x − mean).
    DWeightWithoutInvStd => DWEIGHT,
    /// dweight = weight·Σ dy·x_hat.
    DWeightTimesWeight => DWEIGHT,
    /// dweight = Σ dy·x_hat / n.
    DWeightMean => DWEIGHT,
    /// dbias = Σ dy / n.
    DBiasMean => DBIAS,
    /// dbias = Σ dx.
    DBiasOfDx => DBIAS,
    /// dweight and dbias are swapped.
    ParametersSwapped => PARAMETERS,

    // The sums.
    /// Sums over the first image only.
    FirstImageOnly => ALL,
    /// Sums without the last value of each channel.
    LastValueDropped => ALL,
    /// Values that do not fill a tile of 64 are left out of the sums.
    LastTileDropped => ALL,
    /// Only the first 1024 values count.
    LoopEndsEarly => ALL,
    /// Each channel has the sums of the next one.
    NeighbourSums => ALL,
    /// The sums of channels from 256 on are not computed.
    ChannelsBeyond256Dropped => ALL,
    /// Channels are taken for images, and images for channels.
    ImagesAndChannelsSwapped => ALL,
    /// Channels-last memory is read as channels-first.
    LayoutIgnored => ALL,
    /// dy is replaced by ones.
    DyIgnored => ALL,
    /// |dy| is summed.
    SignOfDyLost => ALL,
    /// Σ dy·x − mean·Σ dy in f32, though both sums are exact.
    OnePassInF32 => OF_X,
    /// The mean of x is rounded to f32 before it is subtracted.
    MeanRoundedToF32 => OF_X,

    // Which statistics, and when.
    /// After a pass by running statistics, x_hat and inv_std come from the batch.
    EvalUsesBatch => OF_X,
    /// After a pass by batch statistics, x_hat and inv_std come from the running statistics.
    TrainingUsesRunning => OF_X,
    /// Every step uses x_hat and inv_std of the first batch.
    StatisticsOfTheFirstStep => OF_X,
    /// The gradients are those of the step before.
    PreviousStep => ALL,
    /// dweight and dbias are added to those of the steps before.
    Accumulated => PARAMETERS,
    /// dx is added to that of the step before.
    DxAccumulated => DX,

    // The output.
    /// dx = dy.
    DyPassedOn => DX,
    /// Everything has the wrong sign.
    SignFlipped => ALL,
    /// Everything is 0.
    Zeros => ALL,
    /// The last element of dx is never written: 0.
    LastElementUnwritten => DX,
    /// The last element of dx is never written: NaN.
    LastElementPoisoned => DX,
    /// One element in the middle of dx is NaN.
    OneNan => DX,
    /// dx is rounded to the 11 binary digits of an f16.
    DxInHalf => DX,
    /// dweight of the last channel is never written: NaN.
    LastDWeightPoisoned => DWEIGHT,
    /// dbias of the last channel is never written: 0.
    LastDBiasUnwritten => DBIAS,
    /// A NaN or infinity anywhere makes everything NaN.
    NanSpreads => ALL,
    /// max(value, lowest number) loses a NaN, as some GPUs' `max` does.
    NanLost => OF_X,
    /// dx is flattened.
    WrongShape => DX,
    /// dweight has one value too many.
    DWeightTooLong => DWEIGHT,
    /// dweight is missing.
    DWeightMissing => DWEIGHT,
    /// dbias is missing.
    DBiasMissing => DBIAS,
    /// dweight and dbias are always returned.
    ParametersAlways => PARAMETERS,
    /// dweight is missing without a bias.
    DWeightNeedsBias => DWEIGHT,
    /// dbias is missing without a weight.
    DBiasNeedsWeight => DBIAS,
    /// A layer with only a bias has a dweight, too.
    DWeightOfBias => DWEIGHT,
    /// A layer with only a weight has a dbias, too.
    DBiasOfWeight => DBIAS,
    /// There are no gradients at all.
    GradientsMissing => &["gradients"],
}

/// The backward pass with a fault.
struct Mutant(Fault);

/// The statistics that one channel was normalised with.
#[derive(Clone, Copy)]
struct Channel {
    mean: f64,
    var: f64,
    inv_std: f64,
}

/// The sums of one channel.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// Σ dy.
    dy: f64,
    /// Σ dy·(x − mean).
    product: f64,
    /// Σ dy·x.
    dy_x: f64,
    /// Σ dy·y.
    dy_y: f64,
}

/// Inputs of a step.
struct Values<'a> {
    x: &'a [f64],
    dy: &'a [f64],
    weight: &'a [f64],
    bias: &'a [f64],
}

impl Mutant {
    fn is(&self, fault: Fault) -> bool {
        self.0 == fault
    }

    /// Returns mean, variance and inv_std of the batch's channel.
    fn of_batch(&self, case: &Case, values: &[f64]) -> Channel {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let var = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let normalised = if self.is(Fault::UnbiasedInvStd) { var * n / (n - 1.0) } else { var };
        let mean = if self.is(Fault::MeanRoundedToF32) { round(mean) } else { mean };
        Channel { mean, var, inv_std: self.inv_std(case, normalised) }
    }

    fn of_running(&self, case: &Case, inputs: &Inputs, c: usize) -> Channel {
        let of = |vector: &Option<Array1<f32>>| vector.as_ref().map_or(f64::NAN, |v| f64::from(v[c]));
        let (mean, var) = (of(&inputs.state.running_mean), of(&inputs.state.running_var));
        Channel { mean, var, inv_std: self.inv_std(case, var) }
    }

    fn inv_std(&self, case: &Case, var: f64) -> f64 {
        let eps = match self.0 {
            Fault::EpsForgotten => 0.0,
            Fault::EpsIgnored => 1e-5,
            _ => case.config.eps,
        };
        1.0 / (var + eps).sqrt()
    }

    /// Returns the sums over the elements with these flat indices, all of one channel.
    fn sums(&self, case: &Case, values: &Values<'_>, channel: Channel, c: usize, indices: &[usize]) -> Sums {
        let n = indices.len();
        let indices = match self.0 {
            _ if n == 0 => indices,
            Fault::ChannelsBeyond256Dropped if c >= 256 => &[],
            Fault::LastValueDropped => &indices[..n - 1],
            Fault::LastTileDropped if n > 64 => &indices[..n / 64 * 64],
            Fault::FirstImageOnly => &indices[..n / case.shape[0]],
            Fault::LoopEndsEarly => &indices[..n.min(1024)],
            _ => indices,
        };
        let mut sums = Sums::default();
        for &k in indices {
            let (x, dy) = (values.x[k], self.gradient(values.dy[k]));
            let away = x - channel.mean;
            sums.dy += dy;
            sums.product += dy * away;
            sums.dy_x += dy * x;
            sums.dy_y += dy * (away * channel.inv_std * values.weight[c] + values.bias[c]);
        }
        if self.is(Fault::OnePassInF32) {
            sums.product = f64::from(sums.dy_x as f32 - (channel.mean * sums.dy) as f32);
        }
        sums
    }

    fn gradient(&self, dy: f64) -> f64 {
        match self.0 {
            Fault::DyIgnored => 1.0,
            Fault::SignOfDyLost => dy.abs(),
            _ => dy,
        }
    }

    /// Returns dy without the part that flows through the statistics.
    fn remaining(&self, dy: f64, x: f64, n: f64, channel: Channel, sums: Sums) -> f64 {
        let n = match self.0 {
            Fault::UnbiasedMeans => n - 1.0,
            Fault::MeansOverOneMore => n + 1.0,
            _ => n,
        };
        let mut mean_dy = sums.dy / n;
        let mut mean_dy_x_hat = sums.product * channel.inv_std / n;
        if self.is(Fault::MeansInHalf) {
            mean_dy = half(mean_dy);
            mean_dy_x_hat = half(mean_dy_x_hat);
        }
        let x_hat = (x - channel.mean) * channel.inv_std;
        let along = match self.0 {
            Fault::SlopeWithoutEps if channel.var > 0.0 => {
                (x - channel.mean) * (sums.product / n / channel.var)
            }
            Fault::SlopeWithoutVariance => (x - channel.mean) * (sums.product / n),
            _ => x_hat * mean_dy_x_hat,
        };
        match self.0 {
            Fault::MeanStays => dy - along,
            Fault::SlopeStays => dy - mean_dy,
            Fault::SlopeAdded => dy - mean_dy + along,
            _ => dy - mean_dy - along,
        }
    }

    /// Returns the factor of dx.
    fn scale(&self, values: &Values<'_>, inv_std: f64, c: usize) -> f64 {
        let weight = values.weight[c];
        match self.0 {
            Fault::WeightDropped => inv_std,
            Fault::WeightSquared => weight * weight * inv_std,
            Fault::BiasForWeight => values.bias[c] * inv_std,
            Fault::NeighbourWeight => values.weight[(c + 1) % values.weight.len()] * inv_std,
            Fault::InvStdSquared => weight * inv_std * inv_std,
            Fault::InvStdDropped => weight,
            _ => weight * inv_std,
        }
    }

    /// Returns dweight of one channel.
    fn dweight(&self, sums: Sums, inv_std: f64, weight: f64, n: f64) -> f64 {
        match self.0 {
            Fault::DWeightOfX => sums.dy_x,
            Fault::DWeightOfY => sums.dy_y,
            Fault::DWeightWithoutInvStd => sums.product,
            Fault::DWeightTimesWeight => sums.product * inv_std * weight,
            Fault::DWeightMean if n > 0.0 => sums.product * inv_std / n,
            _ => sums.product * inv_std,
        }
    }

    fn has_dweight(&self, case: &Case) -> bool {
        let BatchNormConfig { weight, bias, .. } = case.config;
        match self.0 {
            Fault::ParametersAlways => true,
            Fault::DWeightMissing => false,
            Fault::DWeightNeedsBias => weight && bias,
            Fault::DWeightOfBias => weight || bias,
            _ => weight,
        }
    }

    fn has_dbias(&self, case: &Case) -> bool {
        let BatchNormConfig { weight, bias, .. } = case.config;
        match self.0 {
            Fault::ParametersAlways => true,
            Fault::DBiasMissing => false,
            Fault::DBiasNeedsWeight => bias && weight,
            Fault::DBiasOfWeight => bias || weight,
            _ => bias,
        }
    }

    /// Applies the faults of the results, rather than of their computation.
    fn spoil(&self, dx: &mut [f64], dweight: &mut [f64], dbias: &mut [f64]) {
        let (middle, channels) = (dx.len() / 2, dweight.len());
        match self.0 {
            Fault::ParametersSwapped => dweight.swap_with_slice(dbias),
            Fault::SignFlipped => {
                dx.iter_mut().chain(dweight).chain(dbias).for_each(|value| *value = -*value);
            }
            Fault::Zeros => dx.iter_mut().chain(dweight).chain(dbias).for_each(|value| *value = 0.0),
            Fault::LastElementUnwritten => dx.iter_mut().rev().take(1).for_each(|dx| *dx = 0.0),
            Fault::LastElementPoisoned => dx.iter_mut().rev().take(1).for_each(|dx| *dx = f64::NAN),
            Fault::OneNan => dx.iter_mut().skip(middle).take(1).for_each(|dx| *dx = f64::NAN),
            Fault::DxInHalf => dx.iter_mut().for_each(|dx| *dx = half(*dx)),
            Fault::LastDWeightPoisoned => dweight[channels - 1] = f64::NAN,
            Fault::LastDBiasUnwritten => dbias[channels - 1] = 0.0,
            Fault::NanSpreads if dx.iter().chain(&*dweight).any(|value| !value.is_finite()) => {
                dx.iter_mut().chain(dweight).chain(dbias).for_each(|value| *value = f64::NAN);
            }
            Fault::NanLost => {
                dx.iter_mut().chain(dweight).for_each(|value| *value = value.max(-3e38));
            }
            _ => {}
        }
    }
}

/// Rounds to the 11 binary digits of an f16.
fn half(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let unit = 2f64.powf(value.abs().log2().floor() - 10.0);
    (value / unit).round() * unit
}

impl Mutated for Mutant {
    /// Returns the reference's `right` results, with the mutant's gradients.
    fn outputs(&self, case: &Case, inputs: &Inputs, right: &Outputs) -> Result<Outputs> {
        let problem = Problem::new(&case.shape, case.config.layout)?;
        let channels = problem.channels();
        let n = problem.values_per_channel() as f64;
        let (swapped, ignored) = (self.is(Fault::ImagesAndChannelsSwapped), self.is(Fault::LayoutIgnored));
        let channel_of = channel_of(case, &problem, swapped, ignored);
        let mut indices = vec![Vec::new(); channels];
        (0..problem.elements()).for_each(|k| indices[channel_of(k)].push(k));
        let mut weight = exact(&inputs.state.weight, 1.0, channels);
        if self.is(Fault::WeightNeedsBias) && inputs.state.bias.is_none() {
            weight.fill(1.0);
        }
        let bias = exact(&inputs.state.bias, 0.0, channels);
        let track = case.config.track_running_stats;
        let used_batch = case.training || !track;
        let mut outputs = right.clone();
        let mut first: Option<Vec<Channel>> = None;
        let mut before: Option<StepGradients> = None;
        for (step, (x, dy)) in outputs.steps.iter_mut().zip(inputs.xs.iter().zip(&inputs.dys)) {
            let x: Vec<f64> = x.iter().map(|&value| f64::from(value)).collect();
            let dy: Vec<f64> = dy.iter().map(|&value| f64::from(value)).collect();
            let values = Values { x: &x, dy: &dy, weight: &weight, bias: &bias };
            let takes_batch = match self.0 {
                Fault::EvalUsesBatch => n > 1.0,
                Fault::TrainingUsesRunning if track => false,
                _ => used_batch,
            };
            let mut used: Vec<Channel> = (0..channels)
                .map(|c| {
                    if n == 0.0 {
                        Channel { mean: 0.0, var: 1.0, inv_std: 1.0 }
                    } else if takes_batch {
                        let of_channel: Vec<f64> = indices[c].iter().map(|&k| x[k]).collect();
                        self.of_batch(case, &of_channel)
                    } else {
                        self.of_running(case, inputs, c)
                    }
                })
                .collect();
            if self.is(Fault::StatisticsOfTheFirstStep) {
                used.clone_from(first.get_or_insert(used.clone()));
            }
            let own: Vec<Sums> =
                (0..channels).map(|c| self.sums(case, &values, used[c], c, &indices[c])).collect();
            let neighbour = usize::from(self.is(Fault::NeighbourSums));
            let sums: Vec<Sums> = (0..channels).map(|c| own[(c + neighbour) % channels]).collect();

            let flows = match self.0 {
                Fault::StatisticsDetached => false,
                Fault::RunningAttached => true,
                _ => used_batch,
            };
            let mut dx: Vec<f64> = (0..x.len())
                .map(|k| {
                    let (c, dy) = (channel_of(k), self.gradient(dy[k]));
                    let remaining = if flows { self.remaining(dy, x[k], n, used[c], sums[c]) } else { dy };
                    match self.0 {
                        Fault::DyPassedOn => dy,
                        _ => remaining * self.scale(&values, used[c].inv_std, c),
                    }
                })
                .collect();
            let mut dweight: Vec<f64> =
                (0..channels).map(|c| self.dweight(sums[c], used[c].inv_std, weight[c], n)).collect();
            let mut dbias: Vec<f64> = (0..channels)
                .map(|c| match self.0 {
                    Fault::DBiasMean if n > 0.0 => sums[c].dy / n,
                    Fault::DBiasOfDx => indices[c].iter().map(|&k| dx[k]).sum(),
                    _ => sums[c].dy,
                })
                .collect();
            self.spoil(&mut dx, &mut dweight, &mut dbias);
            if let Some(before) = &before {
                let add = |values: &mut [f64], before: &mut dyn Iterator<Item = &f64>| {
                    values.iter_mut().zip(before).for_each(|(value, before)| *value += before);
                };
                match self.0 {
                    Fault::Accumulated => {
                        add(&mut dweight, &mut before.dweight.iter().flatten());
                        add(&mut dbias, &mut before.dbias.iter().flatten());
                    }
                    Fault::DxAccumulated => add(&mut dx, &mut before.dx.iter()),
                    _ => {}
                }
            }

            let shape = if self.is(Fault::WrongShape) { &[dx.len()] } else { case.shape.as_slice() };
            if self.is(Fault::DWeightTooLong) {
                dweight.push(0.0);
            }
            let dx = ArrayD::from_shape_vec(IxDyn(shape), dx.into_iter().map(round).collect());
            let gradients = StepGradients {
                dresidual: None,
                dx: dx.expect("one value for each element of x"),
                dweight: self.has_dweight(case).then(|| vector(dweight.into_iter())),
                dbias: self.has_dbias(case).then(|| vector(dbias.into_iter())),
                scales: GradientScales::default(),
            };
            let shown = match (self.0, &before) {
                (Fault::PreviousStep, Some(before)) => before.clone(),
                _ => gradients.clone(),
            };
            step.gradients = (!self.is(Fault::GradientsMissing)).then_some(shown);
            before = Some(gradients);
        }
        Ok(outputs)
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
    assert_rejected_at_a_large_mean_only(&[Fault::OnePassInF32, Fault::MeanRoundedToF32].map(Mutant))
}
