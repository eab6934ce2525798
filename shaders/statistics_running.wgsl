// The running statistics.
@group(0) @binding(6) var<storage, read> running_mean: array<f32>;
@group(0) @binding(7) var<storage, read> running_var: array<f32>;

fn channel_statistics(channel: u32) -> Statistics {
    let variance = running_var[channel];
    return Statistics(running_mean[channel], 0.0, inverse_deviation(variance), variance);
}
