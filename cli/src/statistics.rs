//! Mean and standard deviation of each channel, for the report of `run`.

use wgpu_batchnorm::ndarray::{ArrayD, ArrayViewD, Axis};

/// Mean and biased standard deviation. NaN without values. With a value that is not finite, the deviation is NaN and
/// the mean is not finite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    pub(crate) std: f64,
}

impl Spread {
    /// Computes the deviation of `n` values from their mean.
    pub(crate) fn around(mean: f64, n: usize, values: impl Iterator<Item = f64>) -> Self {
        Self { mean, std: (values.map(|value| (value - mean).powi(2)).sum::<f64>() / n as f64).sqrt() }
    }

    /// Computes in two passes: first the mean, then the mean square of the differences from it.
    fn of<T: Copy + Into<f64>>(values: ArrayViewD<'_, T>) -> Self {
        let (n, values) = (values.len(), values.iter().map(|&value| value.into()));
        let mean = values.clone().sum::<f64>() / n as f64;
        Self::around(mean, n, values)
    }

    /// Computes mean and standard deviation over all channels, which have equally many values.
    pub(crate) fn over(channels: impl Iterator<Item = Self> + Clone) -> Self {
        let n = channels.clone().count() as f64;
        let mean = channels.clone().map(|channel| channel.mean).sum::<f64>() / n;
        let square = |channel: Self| channel.std.powi(2) + (channel.mean - mean).powi(2);
        Self { mean, std: (channels.map(square).sum::<f64>() / n).sqrt() }
    }

    /// Computes mean and standard deviation of each channel.
    pub(crate) fn of_channels<T: Copy + Into<f64>>(values: &ArrayD<T>, axis: Axis) -> Vec<Self> {
        values.axis_iter(axis).map(Self::of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;
    use wgpu_batchnorm::ndarray::{ArrayD, Axis, arr2};

    #[test]
    fn channels_are_taken_along_their_axis() {
        let x = arr2(&[[1.0f32, 5.0], [3.0, f32::INFINITY]]).into_dyn();
        let channels = Spread::of_channels(&x, Axis(1));
        assert_eq!((channels[0].mean, channels[0].std), (2.0, 1.0));
        assert!(channels[1].mean.is_infinite() && channels[1].std.is_nan());
        let all = Spread::over(channels.iter().copied());
        assert!(all.mean.is_infinite() && all.std.is_nan());
        let rows = Spread::of_channels(&x, Axis(0));
        assert_eq!((rows[0].mean, rows[0].std), (3.0, 2.0));
    }

    #[test]
    fn channels_together_are_all_values() {
        let x = arr2(&[[1.0f32, 5.0, -2.0], [3.0, 4.0, 100.0]]).into_dyn();
        let (whole, all) = (Spread::of(x.view()), Spread::over(Spread::of_channels(&x, Axis(1)).into_iter()));
        assert!((whole.mean - all.mean).abs() < 1e-13 && (whole.std - all.std).abs() < 1e-12, "{all:?}");
    }

    #[test]
    fn no_values_have_no_mean() {
        let empty = Spread::of_channels(&ArrayD::<f32>::zeros(vec![0, 3, 2]), Axis(1));
        assert!(empty.len() == 3 && empty.iter().all(|spread| spread.mean.is_nan() && spread.std.is_nan()));
    }
}
