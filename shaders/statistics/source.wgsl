// uses: entry, statistics/type

// channel_statistics: where the statistics of a channel come from. `finishes` says whether it is for this workgroup to
// store what follows from partial results.

// case batch:
// uses: data/per_channel, numerics/float_float
// The batch's own statistics, as the forward pass left them: mean (two parts), inv_std and variance.
@group(0) @binding(3) var<storage, read> statistics: array<vec4<f32>>;

fn channel_statistics(channel: u32, invocation: Invocation, finishes: bool) -> Statistics {
    var mean: FloatFloat;
    var inv_std: PerChannel;
    var variance: PerChannel;
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        let of_channel = statistics[channel_after(channel, k)];
        mean.hi = with_component(mean.hi, k, of_channel.x);
        mean.lo = with_component(mean.lo, k, of_channel.y);
        inv_std = with_component(inv_std, k, of_channel.z);
        variance = with_component(variance, k, of_channel.w);
    }
    return statistics_of(mean, inv_std, variance);
}

// case merged:
// uses: lanes, iterate/partials, forward/finish_channel
// The batch's own statistics: each workgroup merges the partial moments of its channel, in the same order.
fn channel_statistics(channel: u32, invocation: Invocation, finishes: bool) -> Statistics {
    let merged = merged_channel(channel, invocation);
    if finishes && is_leader(invocation) {
        finish_channel(channel, merged);
    }
    return batch_statistics(merged);
}

// case running:
// uses: data/params, data/per_channel, numerics/float_float
// The running statistics.
@group(0) @binding(6) var<storage, read> running_mean: array<f32>;
@group(0) @binding(7) var<storage, read> running_var: array<f32>;

fn channel_statistics(channel: u32, invocation: Invocation, finishes: bool) -> Statistics {
    var mean: FloatFloat;
    var variance: PerChannel;
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        mean.hi = with_component(mean.hi, k, running_mean[channel_after(channel, k)]);
        variance = with_component(variance, k, running_var[channel_after(channel, k)]);
    }
    return statistics_of(mean, inverse_root(variance + params.eps), variance);
}

// case none:
// No statistics: the gradient of the bias alone does not depend on x.
fn channel_statistics(channel: u32, invocation: Invocation, finishes: bool) -> Statistics {
    return Statistics();
}
