// An invocation computes four neighbouring channels at once: what belongs to a channel is one component.
// After the last channel comes the first again.
alias Number = vec4<f32>;
alias Bits = vec4<u32>;

const CHANNELS_AT_ONCE: u32 = 4u;

// The number of the k-th channel at once, and all numbers with that one replaced.
fn part(number: Number, k: u32) -> f32 {
    return number[k];
}

fn with_part(number: Number, k: u32, value: f32) -> Number {
    var replaced = number;
    replaced[k] = value;
    return replaced;
}

fn channel_after(channel: u32, k: u32) -> u32 {
    return (channel + k) % params.channels;
}

// See `is_finite`.
fn finite(number: Number) -> vec4<bool> {
    return (bitcast<Bits>(number) & Bits(0x7f800000u)) != Bits(0x7f800000u);
}
