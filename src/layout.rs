//! Position of the channel axis in a tensor.

use std::fmt;

/// Position of the channel axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Layout {
    /// `[N, C, spatial…]`, PyTorch's default. A channel's values lie in contiguous planes.
    #[default]
    ChannelsFirst,
    /// `[N, spatial…, C]`, TensorFlow's default. Neighbouring values belong to neighbouring channels.
    ChannelsLast,
}

impl Layout {
    /// Returns the channel axis of a tensor with `rank` dimensions. Tensors have 2 to 5: see
    /// [`Problem::new`](crate::Problem::new).
    pub fn channel_axis(self, rank: usize) -> usize {
        match self {
            Self::ChannelsFirst => 1,
            Self::ChannelsLast => rank.saturating_sub(1),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChannelsFirst => "channels-first",
            Self::ChannelsLast => "channels-last",
        })
    }
}

impl std::str::FromStr for Layout {
    type Err = String;

    /// Accepts `channels-first` and `channels-last`, with `-` or `_`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.replace('_', "-").as_str() {
            "channels-first" => Ok(Self::ChannelsFirst),
            "channels-last" => Ok(Self::ChannelsLast),
            _ => Err(format!("unknown layout {:?}: channels-first or channels-last", crate::text::cut(text))),
        }
    }
}
