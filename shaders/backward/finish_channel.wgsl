// uses: data/params, numerics/float_float, statistics/type, backward/dbias, backward/dweight
// uses: backward/projections, backward/sums

// Stores what follows from the sums of a channel: dbias = sum of dy, dweight = sum of dy * x_hat, and what dx needs.
fn finish_channel(channel: u32, sums: Sums, of_channel: Statistics) {
    let unscaled = 1.0 / params.sum_scale;
    store_dbias(channel, sums.dy.hi * unscaled);
    store_dweight(channel, opaque(sums.product.hi * of_channel.inv_std_in_units) * unscaled);
    store_projection(channel, sums, of_channel);
}
