// uses: data/per_channel, data/vector, numerics/float_float, statistics/type, epilogue/bias, epilogue/weight

// y = ((x - mean.hi) - mean.lo) * (weight * inv_std) + bias, with x and the mean in units of the channel.
//
// The mean is subtracted first: y = x * a + b with a folded b would lose the digits that x has in common with a large
// mean.
struct ScaleShift {
    unit: PerChannel,
    mean: FloatFloat,
    scale: PerChannel,
    shift: PerChannel,
}

fn scale_shift_of(channel: u32, statistics: Statistics) -> ScaleShift {
    let scale = channel_weight(channel) * statistics.inv_std_in_units;
    return ScaleShift(statistics.unit, statistics.mean, scale, channel_bias(channel));
}

fn apply(value: Vector, scale_shift: ScaleShift) -> Vector {
    let deviation = opaque_vector(value * scale_shift.unit - scale_shift.mean.hi) - scale_shift.mean.lo;
    return deviation * scale_shift.scale + scale_shift.shift;
}
