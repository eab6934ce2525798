//! Reduces the shape of a tensor of any rank to `[outer, channels, inner]`.

use crate::error::{Error, Result};
use crate::layout::Layout;
use std::fmt;

/// A tensor's shape, reduced to what batch norm needs: `[outer, channels, inner]`.
///
/// An empty tensor has outer 0, and channels first also inner 0.
///
/// | layout | outer | inner | index of element `(o, c, i)` |
/// |---|---|---|---|
/// | channels first `[N, C, spatial…]` | N | product of the spatial sizes | `(o·C + c)·inner + i` |
/// | channels last `[N, spatial…, C]` | N · product of the spatial sizes | 1 | `o·C + c` |
///
/// ```
/// use wgpu_batchnorm::{Layout, Problem};
///
/// let problem = Problem::new(&[20, 100, 35, 45], Layout::ChannelsFirst)?;
/// assert_eq!((problem.outer(), problem.channels(), problem.inner()), (20, 100, 35 * 45));
/// assert_eq!(problem.values_per_channel(), 20 * 35 * 45);
/// # Ok::<(), wgpu_batchnorm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    pub(crate) outer: usize,
    pub(crate) channels: usize,
    pub(crate) inner: usize,
}

impl Problem {
    /// Largest number of elements per tensor, since kernels index with 32 bits and step past the end once.
    pub const MAX_ELEMENTS: usize = 1 << 31;

    /// Reduces `shape` to `[outer, channels, inner]`.
    ///
    /// # Errors
    /// - [`Error::Rank`] unless `shape` has 2 to 5 dimensions.
    /// - [`Error::NoChannels`] if the channel axis is empty.
    /// - [`Error::TooManyChannels`] above 2³² − 1, which only an empty tensor can have.
    /// - [`Error::TooManyElements`] above [`MAX_ELEMENTS`](Self::MAX_ELEMENTS).
    pub fn new(shape: &[usize], layout: Layout) -> Result<Self> {
        if !(2..=5).contains(&shape.len()) {
            return Err(Error::Rank { rank: shape.len(), shape: shape.to_vec() });
        }
        let axis = layout.channel_axis(shape.len());
        let channels = shape[axis];
        if channels == 0 {
            return Err(Error::NoChannels { shape: shape.to_vec(), layout });
        }
        if u32::try_from(channels).is_err() {
            return Err(Error::TooManyChannels { channels, limit: u32::MAX, shape: shape.to_vec() });
        }
        let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        // An empty tensor has no elements, however large its other dimensions are.
        let empty = shape.contains(&0);
        if !empty && elements.is_none_or(|elements| elements > Self::MAX_ELEMENTS) {
            return Err(Error::TooManyElements { shape: shape.to_vec(), limit: Self::MAX_ELEMENTS });
        }
        if empty {
            return Ok(Self { outer: 0, channels, inner: usize::from(layout == Layout::ChannelsLast) });
        }
        Ok(match layout {
            Layout::ChannelsFirst => {
                Self { outer: shape[0], channels, inner: shape[axis + 1..].iter().product() }
            }
            Layout::ChannelsLast => Self { outer: shape[..axis].iter().product(), channels, inner: 1 },
        })
    }

    /// Returns how often the channels repeat.
    pub fn outer(&self) -> usize {
        self.outer
    }

    /// Returns the number of channels, C.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Returns the number of contiguous values of one channel.
    pub fn inner(&self) -> usize {
        self.inner
    }

    /// Returns n, the number of values per channel: outer × inner.
    pub fn values_per_channel(&self) -> usize {
        self.outer * self.inner
    }

    /// Returns the number of elements of the tensor.
    pub fn elements(&self) -> usize {
        self.values_per_channel() * self.channels
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[outer {}, channels {}, inner {}]", self.outer, self.channels, self.inner)
    }
}
