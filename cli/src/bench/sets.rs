//! The shapes that are timed.

use clap::ValueEnum;
use wgpu_batchnorm::{Activation, DType, Layout};

/// A named set of shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Set {
    /// Shapes that other libraries are compared on
    Peers,
    /// All batch norms of a ResNet-50, with --batch images
    Resnet50,
    /// The examples of the documents
    Documents,
    /// Two dimensions, with many features
    Wide,
    /// Images of 7 × 7 and of a single pixel
    TinySpatial,
    /// One to sixteen channels of large images
    FewChannels,
    /// The images of all other sets, channels last
    ChannelsLast,
}

/// Sizes of a tensor in the order of its layout in memory.
pub(crate) type Sizes = Vec<usize>;

/// Parses sizes with commas between.
pub(crate) fn sizes(text: &str) -> Result<Sizes, String> {
    let size = |part: &str| part.trim().parse().ok().filter(|size| *size > 0);
    text.split(',')
        .map(size)
        .collect::<Option<_>>()
        .ok_or_else(|| "allowed is 8,64,112,112 or the like".to_owned())
}

/// A shape in its layout, and the variant that is computed on it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) sizes: Sizes,
    pub(crate) layout: Layout,
    pub(crate) variant: Variant,
}

/// The element type, and the activation and residual after the batch norm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Variant {
    pub(crate) dtype: DType,
    pub(crate) activation: Activation,
    /// Whether a tensor is added before the activation.
    pub(crate) add: bool,
    /// Whether activation and sum are a separate pass, rather than fused.
    pub(crate) apart: bool,
}

impl std::fmt::Display for Variant {
    /// Writes the variant, such as `f16, relu of a sum, fused`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.dtype)?;
        if self.activation == Activation::Identity {
            return Ok(());
        }
        let sum = if self.add { " of a sum" } else { "" };
        write!(f, ", {}{sum}, {}", self.activation, if self.apart { "apart" } else { "fused" })
    }
}

impl Set {
    pub(crate) fn shapes(self, batch: usize) -> Vec<Shape> {
        let first = |sizes: &[&[usize]]| -> Vec<Shape> {
            sizes.iter().map(|s| Shape::new(s.to_vec(), Layout::ChannelsFirst)).collect()
        };
        match self {
            Self::Peers => first(&[
                &[8, 64, 112, 112],
                &[8, 256, 56, 56],
                &[8, 512, 28, 28],
                &[8, 1024, 14, 14],
                &[8, 2048, 7, 7],
                &[32, 64, 56, 56],
                &[20, 100, 35, 45],
                &[100, 16, 28, 28],
                &[4096, 1024, 1, 1],
            ]),
            Self::Resnet50 => first(&[
                &[batch, 64, 112, 112],
                &[batch, 64, 56, 56],
                &[batch, 256, 56, 56],
                &[batch, 128, 56, 56],
                &[batch, 128, 28, 28],
                &[batch, 512, 28, 28],
                &[batch, 256, 28, 28],
                &[batch, 256, 14, 14],
                &[batch, 1024, 14, 14],
                &[batch, 512, 14, 14],
                &[batch, 512, 7, 7],
                &[batch, 2048, 7, 7],
            ]),
            Self::Documents => first(&[&[20, 100, 35, 45], &[100, 16, 784], &[1, 16, 7, 7], &[4, 5]]),
            Self::Wide => first(&[&[4096, 1024], &[256, 65_536]]),
            Self::TinySpatial => first(&[
                &[8, 2048, 7, 7],
                &[32, 512, 7, 7],
                &[32, 512, 8, 8],
                &[64, 3001, 3, 3],
                &[1024, 1024, 1, 1],
            ]),
            Self::FewChannels => {
                first(&[&[8, 3, 512, 512], &[8, 3, 511, 513], &[4, 16, 256, 256], &[16, 1, 512, 512]])
            }
            Self::ChannelsLast => {
                let sets = [
                    Self::Peers,
                    Self::Resnet50,
                    Self::Documents,
                    Self::Wide,
                    Self::TinySpatial,
                    Self::FewChannels,
                ];
                let shapes = sets.iter().flat_map(|set| set.shapes(batch));
                distinct(shapes.filter_map(Shape::channels_last))
            }
        }
    }
}

impl Shape {
    /// Returns a shape with the f32 batch norm alone.
    pub(crate) fn new(sizes: Sizes, layout: Layout) -> Self {
        Self { sizes, layout, variant: Variant::default() }
    }

    /// Returns the bytes of a tensor of the shape.
    pub(crate) fn tensor_bytes(&self) -> u64 {
        let elements: u64 = self.sizes.iter().map(|&size| size as u64).product();
        elements * self.variant.dtype.bytes()
    }

    /// Returns the options of `bench` that choose the shape.
    pub(crate) fn options(&self) -> String {
        let sizes: Vec<String> = self.sizes.iter().map(ToString::to_string).collect();
        format!("--shape {} --layout {}", sizes.join(","), self.layout)
    }

    /// Returns the same images channels last. `None` without spatial dimensions, since the layouts are the same
    /// there.
    fn channels_last(mut self) -> Option<Self> {
        if self.sizes.len() < 3 {
            return None;
        }
        self.sizes[1..].rotate_left(1);
        Some(Self { layout: Layout::ChannelsLast, ..self })
    }
}

/// Returns each shape once, in the order of first appearance.
pub(super) fn distinct(shapes: impl IntoIterator<Item = Shape>) -> Vec<Shape> {
    let mut kept: Vec<Shape> = Vec::new();
    for shape in shapes {
        if !kept.contains(&shape) {
            kept.push(shape);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::{Set, distinct, sizes};
    use clap::ValueEnum;
    use wgpu_batchnorm::{Layout, Mode};

    #[test]
    fn sizes_are_positive_whole_numbers() {
        assert_eq!(sizes("8,64,112,112"), Ok(vec![8, 64, 112, 112]));
        assert_eq!(sizes("4, 5"), Ok(vec![4, 5]));
        for wrong in ["", "4,", "4,0", "4,-5", "4x5", "4,5.0", "99999999999999999999,1"] {
            assert!(sizes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_set_has_shapes_that_can_be_planned() -> wgpu_batchnorm::Result<()> {
        for set in Set::value_variants() {
            let shapes = set.shapes(3);
            assert!(!shapes.is_empty());
            for shape in &shapes {
                shape.config().problem(&shape.sizes, shape.layout, Mode::Train)?;
                assert_eq!(shape.layout == Layout::ChannelsLast, *set == Set::ChannelsLast, "{shape}");
            }
            assert_eq!(distinct(shapes.clone()), shapes);
        }
        // A ResNet-50 has 53 batch norms, of 12 shapes.
        let resnet50 = Set::Resnet50.shapes(3);
        assert_eq!((resnet50.len(), resnet50[0].sizes.as_slice()), (12, &[3, 64, 112, 112][..]));
        Ok(())
    }

    #[test]
    fn channels_last_has_the_twins_of_all_images_once() {
        let last = Set::ChannelsLast.shapes(8);
        let twin = |sizes: &[usize]| last.iter().filter(|shape| shape.sizes == sizes).count();
        // The first belongs to both peers and resnet50, the second to documents, the third to tiny-spatial.
        for sizes in [&[8, 56, 56, 256][..], &[100, 784, 16], &[1024, 1, 1, 1024]] {
            assert_eq!(twin(sizes), 1, "{sizes:?}");
        }
        assert!(last.iter().all(|shape| shape.sizes.len() > 2));
        let sets = Set::value_variants().iter().filter(|set| **set != Set::ChannelsLast);
        let images = sets.flat_map(|set| set.shapes(8)).filter(|shape| shape.sizes.len() > 2);
        assert_eq!(last.len(), distinct(images).len());
    }
}
