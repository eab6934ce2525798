// uses: data/per_channel, numerics/float_float

// What a channel is normalised with.
struct Statistics {
    // A power of two up to 1, by which values are multiplied first, so that differences and products of large values
    // fit into f32: below 1 if the deviation is above 1, which it makes a number from 1/2 to 1. No digit is lost.
    unit: PerChannel,
    // The mean, times the unit.
    mean: FloatFloat,
    // 1 / sqrt(var + eps), and the same for values times the unit.
    inv_std: PerChannel,
    inv_std_in_units: PerChannel,
    // The variance, not in units.
    variance: PerChannel,
}

fn statistics_of(mean: FloatFloat, inv_std: PerChannel, variance: PerChannel) -> Statistics {
    // The exponent of inv_std alone, and the reciprocal of that.
    let exponent = bitcast<PerChannelBits>(inv_std) & PerChannelBits(0x7f800000u);
    let bits = min(max(exponent, PerChannelBits(0x00800000u)), PerChannelBits(0x3f800000u));
    let unit = bitcast<PerChannel>(bits);
    let per_unit = bitcast<PerChannel>(PerChannelBits(0x7f000000u) - bits);
    return Statistics(unit, FloatFloat(mean.hi * unit, mean.lo * unit), inv_std, inv_std * per_unit, variance);
}

// 1 / sqrt(value), of a variance to which eps is added. The built-in may be off by some units in the last place. One
// Newton step corrects that.
fn inverse_root(value: PerChannel) -> PerChannel {
    let root = inverseSqrt(value);
    let refined = root + 0.5 * root * fma(-value * root, root, PerChannel(1.0));
    // 1 / sqrt(0) is infinity and 1 / sqrt(infinity) is 0, where a Newton step would make NaN.
    return select(root, refined, (value > PerChannel(0.0)) & finite(value));
}
