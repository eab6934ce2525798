// uses: data/per_channel, data/vector, numerics/float_float, statistics/type, epilogue/bias, epilogue/weight

// y = ((x - mean.hi) - mean.lo) * (weight * inv_std) + bias.
//
// The mean is subtracted first: y = x * a + b with a folded b would lose the digits that a large mean has
// in common with x.
struct Normal {
    mean: Pair,
    scale: Number,
    shift: Number,
}

fn normal_of(channel: u32, statistics: Statistics) -> Normal {
    return Normal(statistics.mean, channel_weight(channel) * statistics.inv_std, channel_bias(channel));
}

fn normalized(value: Value, normal: Normal) -> Value {
    let deviation = rounded_value(value - normal.mean.hi) - normal.mean.lo;
    return deviation * normal.scale + normal.shift;
}
