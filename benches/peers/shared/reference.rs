//! Data, and what batch norm makes of them, on the host in f64.

const EPS: f64 = 1e-5;

/// Largest error of a right result, as a fraction of the largest value.
const TOLERANCE: f64 = 1e-4;

/// A shape, channels first, with data.
pub(crate) struct Problem {
    pub(crate) channels: usize,
    /// Values of a channel that lie together.
    plane: usize,
    pub(crate) x: Vec<f32>,
    pub(crate) dy: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) running_mean: Vec<f32>,
    pub(crate) running_var: Vec<f32>,
}

/// What a pass computes; empty is what it does not.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) y: Vec<f64>,
    pub(crate) dx: Vec<f64>,
    pub(crate) dweight: Vec<f64>,
    pub(crate) dbias: Vec<f64>,
}

impl Problem {
    pub(crate) fn new(shape: &[usize]) -> Self {
        let channels = shape[1];
        let elements = shape.iter().product();
        let of_channels = |f: fn(f64) -> f64| (0..channels).map(|c| f(c as f64) as f32).collect();
        Self {
            channels,
            plane: shape[2..].iter().product(),
            x: uniform(1, elements),
            dy: uniform(2, elements),
            weight: of_channels(|c| 1.0 + 0.5 * c.sin()),
            bias: of_channels(f64::cos),
            running_mean: of_channels(|c| 0.1 * (2.0 * c).sin()),
            running_var: of_channels(|c| 1.0 + 0.2 * (2.0 * c).cos()),
        }
    }

    /// Each value's channel.
    fn channel(&self, index: usize) -> usize {
        index / self.plane % self.channels
    }

    /// Sums of a function of the index and the channel, for each channel.
    fn sums(&self, f: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        for k in 0..self.x.len() {
            let c = self.channel(k);
            sums[c] += f(k, c);
        }
        sums
    }

    /// x less the mean, divided by the standard deviation.
    fn normalized(&self, mean: &[f64], var: &[f64]) -> Vec<f64> {
        let normalize = |(k, x): (usize, &f32)| {
            let c = self.channel(k);
            (f64::from(*x) - mean[c]) / (var[c] + EPS).sqrt()
        };
        self.x.iter().enumerate().map(normalize).collect()
    }

    fn y(&self, x_hat: &[f64]) -> Vec<f64> {
        let scale = |(k, x_hat): (usize, &f64)| {
            let c = self.channel(k);
            f64::from(self.weight[c]) * x_hat + f64::from(self.bias[c])
        };
        x_hat.iter().enumerate().map(scale).collect()
    }

    fn values_per_channel(&self) -> f64 {
        (self.x.len() / self.channels) as f64
    }

    /// Mean and biased variance.
    fn moments(&self) -> (Vec<f64>, Vec<f64>) {
        let n = self.values_per_channel();
        let mean: Vec<f64> = self.sums(|k, _| f64::from(self.x[k])).iter().map(|sum| sum / n).collect();
        let var = self.sums(|k, c| (f64::from(self.x[k]) - mean[c]).powi(2));
        (mean, var.iter().map(|sum| sum / n).collect())
    }

    pub(crate) fn after_eval(&self) -> Results {
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|value| f64::from(*value)).collect() };
        let x_hat = self.normalized(&wide(&self.running_mean), &wide(&self.running_var));
        Results { y: self.y(&x_hat), ..Results::default() }
    }

    pub(crate) fn after_training(&self) -> Results {
        let (mean, var) = self.moments();
        Results { y: self.y(&self.normalized(&mean, &var)), ..Results::default() }
    }

    pub(crate) fn after_backward(&self) -> Results {
        let (mean, var) = self.moments();
        let x_hat = self.normalized(&mean, &var);
        let dbias = self.sums(|k, _| f64::from(self.dy[k]));
        let dweight = self.sums(|k, _| f64::from(self.dy[k]) * x_hat[k]);
        let n = self.values_per_channel();
        let dx = |(k, dy): (usize, &f32)| {
            let c = self.channel(k);
            let deviation = f64::from(*dy) - dbias[c] / n - x_hat[k] * dweight[c] / n;
            f64::from(self.weight[c]) / (var[c] + EPS).sqrt() * deviation
        };
        let dx = self.dy.iter().enumerate().map(dx).collect();
        Results { y: self.y(&x_hat), dx, dweight, dbias }
    }

    /// Whether each result is as near to the exact one as sums of f32 can be.
    pub(crate) fn agrees(&self, results: &Results, exact: &Results) -> bool {
        let close = |found: &[f64], exact: &[f64]| {
            let largest = exact.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
            // Written so that NaN is far from everything.
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= TOLERANCE * largest;
            found.len() == exact.len() && found.iter().zip(exact).all(near)
        };
        close(&results.y, &exact.y)
            && close(&results.dx, &exact.dx)
            && close(&results.dweight, &exact.dweight)
            && close(&results.dbias, &exact.dbias)
    }
}

/// Values between -2 and 2, different for each seed.
fn uniform(seed: u64, count: usize) -> Vec<f32> {
    // Multiplier and increment are Knuth's, of MMIX.
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..count).map(|_| next()).collect()
}
