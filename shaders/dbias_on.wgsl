// The gradient with respect to the bias.
@group(0) @binding(13) var<storage, read_write> dbias: array<f32>;

fn store_dbias(channel: u32, value: f32) {
    if params.accumulate != 0u {
        dbias[channel] += value;
    } else {
        dbias[channel] = value;
    }
}
