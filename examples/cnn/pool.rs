//! Max-pool: the largest of each 2×2 pixels.

use super::shared::Result;
use ndarray::Array4;

/// y[n, c, h, w] = max x[n, c, 2h + a, 2w + b], over a and b below 2.
#[derive(Default)]
pub(crate) struct MaxPool {
    /// Index in x of each value of y, in the last forward pass.
    largest: Vec<usize>,
}

impl MaxPool {
    /// Returns y for x `[N, C, height, width]`. Height and width must be even.
    pub(crate) fn forward(&mut self, x: &Array4<f32>) -> Result<Array4<f32>> {
        let (n, c, height, width) = x.dim();
        let x: Vec<f32> = x.iter().copied().collect();
        self.largest.clear();
        // `row` counts the rows of all images and channels. Two of them make one row of y.
        for row in (0..n * c * height).step_by(2) {
            for corner in (row * width..(row + 1) * width).step_by(2) {
                let larger = |best: usize, next: usize| if x[next] > x[best] { next } else { best };
                let others = [corner + 1, corner + width, corner + width + 1];
                self.largest.push(others.into_iter().fold(corner, larger));
            }
        }
        let y = self.largest.iter().map(|&index| x[index]).collect();
        Ok(Array4::from_shape_vec((n, c, height / 2, width / 2), y)?)
    }

    /// Returns dx: each dy goes to the place that its y came from, and 0 to the other three.
    pub(crate) fn backward(&self, dy: &Array4<f32>) -> Result<Array4<f32>> {
        let (n, c, height, width) = dy.dim();
        let mut dx = vec![0.0; 4 * dy.len()];
        for (&index, &dy) in self.largest.iter().zip(dy) {
            dx[index] = dy;
        }
        Ok(Array4::from_shape_vec((n, c, 2 * height, 2 * width), dx)?)
    }
}
