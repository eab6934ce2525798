// What becomes of the partial result of one split: store_result.

// case partial:
// uses: data/params, data/per_channel
// needs: Partial, pack
// A split's result is one of several: partials[split * channels + channel].
@group(0) @binding(9) var<storage, read_write> partials: array<vec4<u32>>;

fn store_result(split: u32, channel: u32, result: Partial) {
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        partials[split * params.channels + channel + k] = pack(result, k);
    }
}

// case statistics:
// uses: forward/finish_channel
// needs: Partial
// The only split's result is the channel's.
fn store_result(split: u32, channel: u32, result: Partial) {
    finish_channel(channel, result);
}

// case gradients:
// uses: statistics/source, backward/finish_channel
// needs: Partial
// The only split's result is the channel's.
fn store_result(split: u32, channel: u32, result: Partial) {
    finish_channel(channel, result, channel_statistics(channel));
}
