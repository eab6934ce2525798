// How far an element of x lies from its channel's mean.
@group(0) @binding(1) var<storage, read> x: array<Value>;

fn touch_x(element: u32) -> u32 {
    return first_bits(x[params.x_offset + element]);
}

fn deviation(element: u32, channel: Statistics) -> Value {
    return rounded_value(x[params.x_offset + element] - channel.mean.hi) - channel.mean.lo;
}
