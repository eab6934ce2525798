// uses: data/params

// What belongs to a channel: PerChannel. An invocation computes one channel at a time, or four.

// case one:
// An invocation computes one channel at a time: what belongs to a channel is one number.
alias PerChannel = f32;
alias PerChannelBits = u32;

const CHANNELS_PER_VECTOR: u32 = 1u;

// The number of the k-th channel at once, and all numbers with that one replaced.
fn component(number: PerChannel, k: u32) -> f32 {
    return number;
}

fn with_component(number: PerChannel, k: u32, value: f32) -> PerChannel {
    return value;
}

fn channel_after(channel: u32, k: u32) -> u32 {
    return channel;
}

// See `is_finite`.
fn finite(number: PerChannel) -> bool {
    return is_finite(number);
}

// case four:
// An invocation computes four neighbouring channels at once: what belongs to a channel is one component.
// After the last channel comes the first again.
alias PerChannel = vec4<f32>;
alias PerChannelBits = vec4<u32>;

const CHANNELS_PER_VECTOR: u32 = 4u;

// The number of the k-th channel at once, and all numbers with that one replaced. Chosen by selection, not by index:
// FXC takes the k-th component as a sum of products with 0 and 1, in which NaN and infinity spread to all four.
fn component(number: PerChannel, k: u32) -> f32 {
    return select(select(number.x, number.y, k == 1u), select(number.z, number.w, k == 3u), k >= 2u);
}

fn with_component(number: PerChannel, k: u32, value: f32) -> PerChannel {
    return select(number, PerChannel(value), PerChannelBits(0u, 1u, 2u, 3u) == PerChannelBits(k));
}

fn channel_after(channel: u32, k: u32) -> u32 {
    return (channel + k) % params.channels;
}

// See `is_finite`.
fn finite(number: PerChannel) -> vec4<bool> {
    return (bitcast<PerChannelBits>(number) & PerChannelBits(0x7f800000u)) != PerChannelBits(0x7f800000u);
}
