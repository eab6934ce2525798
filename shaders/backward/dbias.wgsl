// uses: data/per_channel

// The gradient with respect to the bias: store_dbias.

// case store:
// uses: data/params
// It is stored, or added to what is there.
@group(0) @binding(13) var<storage, read_write> dbias: array<f32>;

fn store_dbias(first_channel: u32, value: PerChannel) {
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        if !is_own(first_channel, k) {
            continue;
        }
        if params.accumulate != 0u {
            dbias[first_channel + k] += component(value, k);
        } else {
            dbias[first_channel + k] = component(value, k);
        }
    }
}

// case none:
// It is not wanted.
fn store_dbias(first_channel: u32, value: PerChannel) {}
