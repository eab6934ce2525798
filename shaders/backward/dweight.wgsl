// uses: data/per_channel

// The gradient with respect to the weight: store_dweight.

// case store:
// uses: data/params
// It is stored, or added to what is there.
@group(0) @binding(12) var<storage, read_write> dweight: array<f32>;

fn store_dweight(first_channel: u32, value: PerChannel) {
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        if !is_own(first_channel, k) {
            continue;
        }
        if params.accumulate != 0u {
            dweight[first_channel + k] += component(value, k);
        } else {
            dweight[first_channel + k] = component(value, k);
        }
    }
}

// case none:
// It is not wanted.
fn store_dweight(first_channel: u32, value: PerChannel) {}
