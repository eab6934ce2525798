//! Convolution as one product of matrices ("im2col").

use super::shared::Result;
use super::shared::dense::Dense;
use ndarray::{Array2, Array4};
use std::ops::Range;
use wgpu_batchnorm::verify::Random;

/// y[n, o, h, w] = Σ x[n, i, h + a, w + b] · weight[i, a, b, o], over i, a and b below the kernel's size.
///
/// No padding, stride 1, and no bias: batch norm follows, and would subtract it again.
pub(crate) struct Convolution {
    /// Maps a window of x, (i, a, b), to the channels of y.
    pub(crate) dense: Dense,
    kernel: usize,
    /// Shape of x in the last forward pass.
    shape: [usize; 4],
}

impl Convolution {
    /// Draws normal weights. Their variance is 2 divided by the inputs of an output (He et al. 2015).
    pub(crate) fn new(inputs: usize, outputs: usize, kernel: usize, random: &mut Random) -> Self {
        let window = inputs * kernel * kernel;
        let dense = Dense::new(window, outputs, (2.0 / window as f64).sqrt(), random).without_bias();
        Self { dense, kernel, shape: [0; 4] }
    }

    /// Returns y for x `[N, inputs, height, width]`.
    pub(crate) fn forward(&mut self, x: &Array4<f32>) -> Result<Array4<f32>> {
        let (n, _, height, width) = x.dim();
        self.shape.copy_from_slice(x.shape());
        let y = self.dense.forward(self.windows(x)?);
        let outputs = y.ncols();
        let [height, width] = [height, width].map(|side| side + 1 - self.kernel);
        // The product has a row for every position, so the channels are last here.
        let y = y.into_shape_with_order((n, height, width, outputs))?;
        Ok(y.permuted_axes([0, 3, 1, 2]).as_standard_layout().into_owned())
    }

    /// Returns dx. Stores dweight with the parameters.
    pub(crate) fn backward(&mut self, dy: &Array4<f32>) -> Result<Array4<f32>> {
        let (n, outputs, height, width) = dy.dim();
        let dy = dy.view().permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned();
        let dwindows = self.dense.backward(&dy.into_shape_with_order((n * height * width, outputs))?);
        self.sum_windows(&dwindows)
    }

    /// Returns the windows of x: one row for every position (n, h, w) of y, one column for every (i, a, b).
    fn windows(&self, x: &Array4<f32>) -> Result<Array2<f32>> {
        let x: Vec<f32> = x.iter().copied().collect();
        let (positions, window) = self.windows_shape();
        let mut windows = vec![0.0; positions * window];
        for (index, part) in windows.chunks_exact_mut(self.kernel).enumerate() {
            part.copy_from_slice(&x[self.part_of_x(index)]);
        }
        Ok(Array2::from_shape_vec((positions, window), windows)?)
    }

    /// Reverses [`windows`](Self::windows): for each value of x, returns the sum over the windows that contain it.
    fn sum_windows(&self, dwindows: &Array2<f32>) -> Result<Array4<f32>> {
        let dwindows: Vec<f32> = dwindows.iter().copied().collect();
        let mut dx = vec![0.0; self.shape.iter().product()];
        for (index, part) in dwindows.chunks_exact(self.kernel).enumerate() {
            dx[self.part_of_x(index)].iter_mut().zip(part).for_each(|(dx, value)| *dx += value);
        }
        Ok(Array4::from_shape_vec(self.shape, dx)?)
    }

    /// Returns the number of positions (n, h, w), and of values in each window.
    fn windows_shape(&self) -> (usize, usize) {
        let [n, inputs, height, width] = self.shape;
        (n * (height + 1 - self.kernel) * (width + 1 - self.kernel), inputs * self.kernel * self.kernel)
    }

    /// Returns the range in x that holds the windows' values (n, h, w, i, a, 0..kernel), which are contiguous in x
    /// and in the windows. `index` counts (n, h, w, i, a).
    fn part_of_x(&self, index: usize) -> Range<usize> {
        let [_, inputs, height, width] = self.shape;
        let (index, a) = (index / self.kernel, index % self.kernel);
        let (index, i) = (index / inputs, index % inputs);
        let (index, w) = (index / (width + 1 - self.kernel), index % (width + 1 - self.kernel));
        let (n, h) = (index / (height + 1 - self.kernel), index % (height + 1 - self.kernel));
        let begin = ((n * inputs + i) * height + h + a) * width + w;
        begin..begin + self.kernel
    }
}
