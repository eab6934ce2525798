// The gradient with respect to the weight.
@group(0) @binding(12) var<storage, read_write> dweight: array<f32>;

fn store_dweight(channel: u32, value: f32) {
    if params.accumulate != 0u {
        dweight[channel] += value;
    } else {
        dweight[channel] = value;
    }
}
