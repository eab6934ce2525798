// The running statistics.
@group(0) @binding(6) var<storage, read> running_mean: array<f32>;
@group(0) @binding(7) var<storage, read> running_var: array<f32>;

fn channel_statistics(channel: u32) -> Statistics {
    var found: Statistics;
    for (var k = 0u; k < CHANNELS_AT_ONCE; k++) {
        found.mean.hi = with_part(found.mean.hi, k, running_mean[channel_after(channel, k)]);
        found.variance = with_part(found.variance, k, running_var[channel_after(channel, k)]);
    }
    found.inv_std = inverse_deviation(found.variance);
    return found;
}
