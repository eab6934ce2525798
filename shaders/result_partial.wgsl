// A split's result is one of several: partials[split * channels + channel].
@group(0) @binding(9) var<storage, read_write> partials: array<vec4<u32>>;

fn store_result(split: u32, channel: u32, result: Partial) {
    for (var k = 0u; k < CHANNELS_AT_ONCE; k++) {
        partials[split * params.channels + channel + k] = pack(result, k);
    }
}
