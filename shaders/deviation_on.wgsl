// How far an element of x lies from its channel's mean.
@group(0) @binding(1) var<storage, read> x: array<f32>;

fn deviation(element: u32, channel: Statistics) -> f32 {
    return rounded(x[params.x_offset + element] - channel.mean_hi) - channel.mean_lo;
}
