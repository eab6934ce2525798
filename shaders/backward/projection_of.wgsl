// uses: data/params, data/per_channel, numerics/float_float, statistics/type, backward/projections
// uses: backward/sums

// mean of dy, and sum of dy * (x - mean) / (n * (var + eps)): the least-squares slope of dy along x.
fn projection_of(sums: Sums, of_channel: Statistics) -> Projection {
    let count = PerChannel(f32(params.values));
    let mean_product = divide_pair(sums.product, count);
    let variance = two_sum(of_channel.variance, PerChannel(params.eps));
    // The quotient by the rounded divisor, less what the divisor's lost part takes from it.
    let slope = divide_pair(mean_product, variance.hi);
    let correction = slope.hi * (variance.lo / variance.hi);
    return Projection(divide_pair(sums.dy, count), FloatFloat(slope.hi, slope.lo - correction));
}
