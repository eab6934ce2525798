// uses: data/vector, statistics/type

// deviation_of: an element of x less its channel's mean, in units of the channel.

// case from_mean:
// x is read.
fn deviation_of(value: Vector, channel: Statistics) -> Vector {
    return opaque_vector(value * channel.unit - channel.mean.hi) - channel.mean.lo;
}

// case none:
fn deviation_of(value: Vector, channel: Statistics) -> Vector {
    return value;
}
