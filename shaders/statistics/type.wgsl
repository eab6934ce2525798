// uses: data/params, data/per_channel, numerics/float_float

// What a channel is normalised with: its mean, 1 / sqrt(var + eps), and var.
struct Statistics {
    mean: FloatFloat,
    inv_std: PerChannel,
    variance: PerChannel,
}

// 1 / sqrt(variance + eps). The built-in may be off by some units in the last place. One Newton step corrects that.
fn inverse_deviation(variance: PerChannel) -> PerChannel {
    let value = variance + params.eps;
    let root = inverseSqrt(value);
    let refined = root + 0.5 * root * fma(-value * root, root, PerChannel(1.0));
    // 1 / sqrt(0) is infinity and 1 / sqrt(infinity) is 0, where a Newton step would make NaN.
    return select(root, refined, (value > PerChannel(0.0)) & finite(value));
}
