// uses: data/per_channel

// The shift of a channel: channel_bias.

// case per_channel:
// A learnable shift for each channel.
@group(0) @binding(5) var<storage, read> bias: array<f32>;

fn channel_bias(channel: u32) -> PerChannel {
    var values: PerChannel;
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        values = with_component(values, k, bias[channel_after(channel, k)]);
    }
    return values;
}

// case none:
// No shift.
fn channel_bias(channel: u32) -> PerChannel {
    return PerChannel(0.0);
}
