// uses: data/vector, statistics/type

// How far an element of x lies from the mean: deviation.

// case from_mean:
// How far an element of x lies from its channel's mean.
fn deviation_of(value: Vector, channel: Statistics) -> Vector {
    return opaque_vector(value - channel.mean.hi) - channel.mean.lo;
}

// case none:
fn deviation_of(value: Vector, channel: Statistics) -> Vector {
    return value;
}
