// How far an element of x lies from its channel's mean.
@group(0) @binding(1) var<storage, read> x: array<Value>;

fn deviation(element: u32, channel: Statistics) -> Value {
    return rounded_value(x[params.x_offset + element] - channel.mean_hi) - channel.mean_lo;
}
