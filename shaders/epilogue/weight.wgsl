// uses: data/per_channel

// The scale of a channel: channel_weight.

// case per_channel:
// A learnable scale for each channel.
@group(0) @binding(4) var<storage, read> weight: array<f32>;

fn channel_weight(channel: u32) -> PerChannel {
    var values: PerChannel;
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        values = with_component(values, k, weight[channel_after(channel, k)]);
    }
    return values;
}

// case none:
// No scale.
fn channel_weight(channel: u32) -> PerChannel {
    return PerChannel(1.0);
}
