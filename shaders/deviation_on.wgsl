// How far an element of x lies from its channel's mean.
@group(0) @binding(1) var<storage, read> x: array<Value>;

fn load_x(element: u32) -> Value {
    return x[params.x_offset + element];
}

fn deviation(value: Value, channel: Statistics) -> Value {
    return rounded_value(value - channel.mean.hi) - channel.mean.lo;
}
