// uses: data/per_channel

// The shift of a channel: channel_bias.

// case per_channel:
// A learnable shift for each channel.
@group(0) @binding(5) var<storage, read> bias: array<f32>;

fn channel_bias(channel: u32) -> Number {
    var values: Number;
    for (var k = 0u; k < CHANNELS_AT_ONCE; k++) {
        values = with_part(values, k, bias[channel_after(channel, k)]);
    }
    return values;
}

// case none:
// No shift.
fn channel_bias(channel: u32) -> Number {
    return Number(0.0);
}
