//! Scales images to another size.

use super::shared::digits::Digits;
use ndarray::Array3;

/// Returns the same digits as square images, interpolated bilinearly. Leaves images of this size unchanged.
pub(crate) fn to_side(digits: Digits, side: usize) -> Digits {
    let (count, rows, columns) = digits.images.dim();
    if (rows, columns) == (side, side) {
        return digits;
    }
    // Returns the old pixels on both sides of a new pixel's middle, and the weight of the second.
    let neighbours = |index: usize, size: usize| {
        let middle = (index as f32 + 0.5) * size as f32 / side as f32 - 0.5;
        let middle = middle.clamp(0.0, (size - 1) as f32);
        (middle as usize, (middle as usize + 1).min(size - 1), middle.fract())
    };
    let images = Array3::from_shape_fn((count, side, side), |(n, row, column)| {
        let (top, bottom, down) = neighbours(row, rows);
        let (left, right, across) = neighbours(column, columns);
        let pixel = |row: usize, column: usize| f32::from(digits.images[[n, row, column]]);
        let mix = |a: f32, b: f32, part: f32| a + (b - a) * part;
        let upper = mix(pixel(top, left), pixel(top, right), across);
        mix(upper, mix(pixel(bottom, left), pixel(bottom, right), across), down).round() as u8
    });
    Digits { images, labels: digits.labels }
}
