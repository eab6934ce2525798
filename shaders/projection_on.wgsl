// mean of dy, and sum of dy * (x - mean) / (n * (var + eps)): the least-squares slope of dy along x.
@group(0) @binding(14) var<storage, read_write> projections: array<Projection>;

fn store_projection(channel: u32, sums: Sums, of_channel: Statistics) {
    let count = f32(params.values);
    let mean_product = divide_pair(sums.product, count);
    let variance = two_sum(of_channel.variance, params.eps);
    // The quotient by the rounded divisor, less what the divisor's lost part takes from it.
    let slope = divide_pair(mean_product, variance.x);
    let correction = slope.x * (variance.y / variance.x);
    projections[channel] = Projection(divide_pair(sums.dy, count), vec2<f32>(slope.x, slope.y - correction));
}
