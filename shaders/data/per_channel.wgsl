// uses: data/params

// PerChannel: one number for each channel that an invocation computes at a time, which is one channel or four.

// case one:
// An invocation computes one channel at a time.
alias PerChannel = f32;
alias PerChannelBits = u32;
alias PerChannelMask = bool;

const CHANNELS_PER_VECTOR: u32 = 1u;

// The k-th component, and all components with the k-th one replaced.
fn component(number: PerChannel, k: u32) -> f32 {
    return number;
}

fn with_component(number: PerChannel, k: u32, value: f32) -> PerChannel {
    return value;
}

fn channel_after(channel: u32, k: u32) -> u32 {
    return channel;
}

// Whether a lane that finishes channels finishes the k-th of them.
fn is_own(channel: u32, k: u32) -> bool {
    return true;
}

// See `is_finite`.
fn finite(number: PerChannel) -> bool {
    return is_finite(number);
}

// case four:
// An invocation computes four neighbouring channels at a time: a component each. The first channel follows the last.
alias PerChannel = vec4<f32>;
alias PerChannelBits = vec4<u32>;
alias PerChannelMask = vec4<bool>;

const CHANNELS_PER_VECTOR: u32 = 4u;

// The k-th component, and all components with the k-th one replaced. Chosen by selection, not by index:
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

// Whether a lane that finishes channels finishes the k-th of them: not those of the next row, which others have.
fn is_own(channel: u32, k: u32) -> bool {
    return channel + k < params.channels;
}

// See `is_finite`.
fn finite(number: PerChannel) -> vec4<bool> {
    return (bitcast<PerChannelBits>(number) & PerChannelBits(0x7f800000u)) != PerChannelBits(0x7f800000u);
}
