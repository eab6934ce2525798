//! The shapes that are timed.

use clap::ValueEnum;
use wgpu_batchnorm::Layout;

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
    /// The images of the other sets, channels last
    ChannelsLast,
}

/// A shape in its layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) sizes: Vec<usize>,
    pub(crate) layout: Layout,
}

impl Set {
    pub(crate) fn shapes(self, batch: usize) -> Vec<Shape> {
        let first = |sizes: &[&[usize]]| -> Vec<Shape> {
            sizes.iter().map(|s| Shape { sizes: s.to_vec(), layout: Layout::ChannelsFirst }).collect()
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
            Self::ChannelsLast => [Self::Peers, Self::TinySpatial, Self::FewChannels]
                .into_iter()
                .flat_map(|set| set.shapes(batch))
                .filter(|shape| shape.sizes.len() == 4)
                .map(|shape| {
                    let [n, c, h, w] = [0, 1, 2, 3].map(|axis| shape.sizes[axis]);
                    Shape { sizes: vec![n, h, w, c], layout: Layout::ChannelsLast }
                })
                .collect(),
        }
    }
}
