// uses: data/per_channel, statistics/type, forward/moments, forward/running_statistics

// Computes the statistics of a channel from its moments, and moves the running ones.
@group(0) @binding(3) var<storage, read_write> statistics: array<vec4<f32>>;

fn finish_channel(channel: u32, batch: Moments) {
    let of_batch = batch_statistics(batch);
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        statistics[channel_after(channel, k)] = vec4<f32>(
            component(of_batch.mean.hi, k),
            component(of_batch.mean.lo, k),
            component(of_batch.inv_std, k),
            component(of_batch.variance, k),
        );
    }
    move_running_statistics(channel, batch);
}

// The biased variance normalises. The unbiased one moves the running average.
fn batch_statistics(batch: Moments) -> Statistics {
    let variance = batch.m2 / f32(batch.count);
    return Statistics(batch.mean, inverse_deviation(variance), variance);
}
