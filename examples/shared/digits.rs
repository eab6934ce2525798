//! Handwritten digits in the files of MNIST (<http://yann.lecun.com/exdb/mnist>), and batches of them.

use super::Result;
use ndarray::{Array2, Array3};
use std::path::Path;
use wgpu_batchnorm::verify::Random;

/// Labels are the digits 0 to 9.
pub(crate) const CLASSES: usize = 10;

/// Images, and the digit that each shows.
#[derive(Debug)]
pub(crate) struct Digits {
    /// `[count, rows, columns]`, 0 to 255.
    pub(crate) images: Array3<u8>,
    /// 0 to 9, one for each image.
    pub(crate) labels: Vec<usize>,
}

impl Digits {
    /// Reads `SPLIT-images-idx3-ubyte` and `SPLIT-labels-idx1-ubyte` of a folder. The split is `train` or
    /// `t10k`, as MNIST calls its test set.
    pub(crate) fn read(folder: &Path, split: &str) -> Result<Self> {
        let image_file = folder.join(format!("{split}-images-idx3-ubyte"));
        let label_file = folder.join(format!("{split}-labels-idx1-ubyte"));
        let (shape, pixels) = read_idx::<3>(&image_file)?;
        let ([count], labels) = read_idx::<1>(&label_file)?;
        if count != shape[0] {
            let (images, labels) = (image_file.display(), label_file.display());
            let images_count = shape[0];
            return Err(format!(
                "{images} has {images_count} images, and {labels} has {count} labels: \
                the two files do not belong together"
            )
            .into());
        }
        if let Some(label) = labels.iter().find(|&&label| usize::from(label) >= CLASSES) {
            let file = label_file.display();
            return Err(format!("{file}: a label is {label}, where the digits are 0 to 9").into());
        }
        let labels = labels.into_iter().map(usize::from).collect();
        Ok(Self { images: Array3::from_shape_vec(shape, pixels)?, labels })
    }

    /// Returns the number of images.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns the number of pixels in an image.
    pub(crate) fn pixels(&self) -> usize {
        self.images.len() / self.len().max(1)
    }

    /// Returns some of the images as rows of numbers from 0 to 1, `[indices, pixels]`, and their labels.
    pub(crate) fn batch(&self, indices: &[usize]) -> (Array2<f32>, Vec<usize>) {
        let pixels = self.pixels();
        let mut x = Array2::zeros((indices.len(), pixels));
        for (mut row, &index) in x.rows_mut().into_iter().zip(indices) {
            let image = self.images.index_axis(ndarray::Axis(0), index);
            row.iter_mut().zip(image).for_each(|(x, &pixel)| *x = f32::from(pixel) / 255.0);
        }
        (x, indices.iter().map(|&index| self.labels[index]).collect())
    }
}

/// Reads an IDX file of bytes with `RANK` dimensions. Returns the sizes, and the values in row-major order.
///
/// The file begins with the bytes 0, 0, 8 (for unsigned bytes) and the number of dimensions, then the size of
/// each as a big-endian u32; the values follow.
fn read_idx<const RANK: usize>(file: &Path) -> Result<([usize; RANK], Vec<u8>)> {
    let name = file.display();
    let mut bytes = std::fs::read(file).map_err(|error| {
        format!("{name}: {error}; --data names a folder with the four files of MNIST, unpacked")
    })?;
    let (header, magic) = (4 + 4 * RANK, [0, 0, 8, RANK as u8]);
    match bytes.get(..4) {
        Some([0x1F, 0x8B, ..]) => return Err(format!("{name} is compressed: unpack it with gunzip").into()),
        Some(found) if found != magic => {
            return Err(format!(
                "{name} begins with the bytes {found:?}, where an IDX file of bytes in {RANK} \
                dimensions begins with {magic:?}"
            )
            .into());
        }
        _ => {}
    }
    if bytes.len() < header {
        let length = bytes.len();
        return Err(format!(
            "{name} ends after {length} bytes, within its header of {header}: it is truncated"
        )
        .into());
    }
    let values = bytes.split_off(header);
    let sizes: [usize; RANK] = std::array::from_fn(|axis| {
        bytes[4 + 4 * axis..][..4].iter().fold(0, |size, &byte| size << 8 | usize::from(byte))
    });
    let expected: u128 = sizes.iter().map(|&size| size as u128).product();
    if values.len() as u128 != expected {
        let found = values.len();
        let fault = if (found as u128) < expected { "it is truncated" } else { "there are too many" };
        return Err(format!(
            "{name} has {found} bytes after its header, which promises {sizes:?}, {expected} bytes: \
            {fault}"
        )
        .into());
    }
    Ok((sizes, values))
}

/// Mini-batches of indices. Every index comes once before any comes again. Indices that are left at the end of a
/// round and do not fill a batch are dropped.
pub(crate) struct Batches {
    order: Vec<usize>,
    next: usize,
    size: usize,
    random: Random,
}

impl Batches {
    /// Prepares batches of `size` among `count` indices, in an order that depends on the seed.
    pub(crate) fn new(count: usize, size: usize, seed: u64) -> Result<Self> {
        if count < size {
            return Err(format!("a batch of {size} cannot be drawn from {count} images").into());
        }
        Ok(Self { order: (0..count).collect(), next: count, size, random: Random::new(seed) })
    }

    /// Returns the next batch.
    pub(crate) fn draw(&mut self) -> &[usize] {
        if self.next + self.size > self.order.len() {
            self.random.shuffle(&mut self.order);
            self.next = 0;
        }
        self.next += self.size;
        &self.order[self.next - self.size..self.next]
    }
}
