// uses: entry

// store_result: what becomes of the result of one split.

// case partial:
// uses: data/params, data/per_channel
// needs: Partial, pack
// A channel has several splits, whose results lie side by side.
@group(0) @binding(9) var<storage, read_write> partials: array<vec4<u32>>;

fn store_result(split: u32, channel: u32, result: Partial, invocation: Invocation) {
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        // Behind the last channel, the next split's first ones follow.
        let at = channel + k;
        let place = at % params.channels * params.reduction.count + split + at / params.channels;
        partials[place] = pack(result, k);
    }
}

// case statistics:
// uses: forward/finish_channel
// needs: Partial
// A channel is one split: its result is the channel's.
fn store_result(split: u32, channel: u32, result: Partial, invocation: Invocation) {
    finish_channel(channel, result);
}

// case gradients:
// uses: statistics/source, backward/finish_channel
// needs: Partial
// A channel is one split: its result is the channel's.
fn store_result(split: u32, channel: u32, result: Partial, invocation: Invocation) {
    finish_channel(channel, result, channel_statistics(channel, invocation, false));
}
