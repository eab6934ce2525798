// uses: data/vector, statistics/type

// How far an element of x lies from the mean: deviation.

// case from_mean:
// How far an element of x lies from its channel's mean.
fn deviation(value: Value, channel: Statistics) -> Value {
    return rounded_value(value - channel.mean.hi) - channel.mean.lo;
}

// case none:
fn deviation(value: Value, channel: Statistics) -> Value {
    return value;
}
