// uses: statistics/type

// channel_statistics: where the statistics of a channel come from.

// case batch:
// uses: data/per_channel
// The batch's own statistics, as the forward pass left them: mean (two parts), inv_std and variance.
@group(0) @binding(3) var<storage, read> statistics: array<vec4<f32>>;

fn channel_statistics(channel: u32) -> Statistics {
    var found: Statistics;
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        let of_channel = statistics[channel_after(channel, k)];
        found.mean.hi = with_component(found.mean.hi, k, of_channel.x);
        found.mean.lo = with_component(found.mean.lo, k, of_channel.y);
        found.inv_std = with_component(found.inv_std, k, of_channel.z);
        found.variance = with_component(found.variance, k, of_channel.w);
    }
    return found;
}

// case running:
// uses: data/per_channel
// The running statistics.
@group(0) @binding(6) var<storage, read> running_mean: array<f32>;
@group(0) @binding(7) var<storage, read> running_var: array<f32>;

fn channel_statistics(channel: u32) -> Statistics {
    var found: Statistics;
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        found.mean.hi = with_component(found.mean.hi, k, running_mean[channel_after(channel, k)]);
        found.variance = with_component(found.variance, k, running_var[channel_after(channel, k)]);
    }
    found.inv_std = inverse_deviation(found.variance);
    return found;
}

// case none:
// No statistics: the gradient of the bias alone does not depend on x.
fn channel_statistics(channel: u32) -> Statistics {
    return Statistics();
}
