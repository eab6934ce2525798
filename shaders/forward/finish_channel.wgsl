// uses: data/params, data/per_channel, statistics/type, forward/moments, forward/running_statistics

// Computes the statistics of a channel from its moments, and moves the running ones.
@group(0) @binding(3) var<storage, read_write> statistics: array<vec4<f32>>;

fn finish_channel(channel: u32, batch: Moments) {
    let inv_std = inverse_deviation(batch);
    let variance = variance_of(batch);
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        if is_own(channel, k) {
            statistics[channel + k] = vec4<f32>(
                component(batch.mean.hi, k),
                component(batch.mean.lo, k),
                component(inv_std, k),
                component(variance, k),
            );
        }
    }
    move_running_statistics(channel, batch);
}

fn batch_statistics(batch: Moments) -> Statistics {
    return statistics_of(batch.mean, inverse_deviation(batch), variance_of(batch));
}

// 1 / sqrt(var + eps). The biased variance normalises, and may itself be too large for f32.
fn inverse_deviation(batch: Moments) -> PerChannel {
    let variance = without_mark(batch.m2) / f32(batch.count);
    let large = is_large(batch.m2);
    let root = inverse_root(variance + select(PerChannel(params.eps), PerChannel(0.0), large));
    return select(root, root * PER_LARGE, large);
}
