// uses: data/params, data/per_channel, numerics/float_float, statistics/type, backward/projections
// uses: backward/sums

// mean of dy, and sum of dy * (x - mean) / (n * (var + eps)): the least-squares slope of dy along x. Both sums are
// scaled, and x and its variance are in units of the channel.
fn projection_of(sums: Sums, of_channel: Statistics) -> Projection {
    let count = PerChannel(f32(params.values) * params.sum_scale);
    let mean_product = divide_pair(sums.product, count);
    let unit = of_channel.unit;
    let variance = two_sum(opaque(of_channel.variance * unit) * unit, opaque(params.eps * unit) * unit);
    // The quotient by the rounded divisor, less what the divisor's lost part takes from it.
    let slope = divide_pair(mean_product, variance.hi);
    let correction = slope.hi * (variance.lo / variance.hi);
    // A variance that is too large for f32 is known by its inverse only.
    let inverse = of_channel.inv_std_in_units * of_channel.inv_std_in_units;
    let is_known = finite(of_channel.variance);
    let zero = PerChannel(0.0);
    return Projection(
        divide_pair(sums.dy, count),
        FloatFloat(
            select(mean_product.hi * inverse, slope.hi, is_known),
            select(zero, slope.lo - correction, is_known),
        ),
    );
}
