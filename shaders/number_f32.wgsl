// An invocation computes one channel at a time: what belongs to a channel is one number.
alias Number = f32;
alias Bits = u32;

const CHANNELS_AT_ONCE: u32 = 1u;

// The number of the k-th channel at once, and all numbers with that one replaced.
fn part(number: Number, k: u32) -> f32 {
    return number;
}

fn with_part(number: Number, k: u32, value: f32) -> Number {
    return value;
}

fn channel_after(channel: u32, k: u32) -> u32 {
    return channel;
}

// See `is_finite`.
fn finite(number: Number) -> bool {
    return is_finite(number);
}
