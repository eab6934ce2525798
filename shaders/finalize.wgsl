// Merges the partial moments of every channel into its statistics, and moves the running statistics.
// A workgroup takes CHANNELS_PER_WORKGROUP channels; its lanes with equal numbers modulo that share one.

@group(0) @binding(9) var<storage, read> partials: array<Partial>;
@group(0) @binding(3) var<storage, read_write> statistics: array<Statistics>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn finalize(invocation: Invocation) {
    let workgroup = linear_workgroup(invocation.workgroup, invocation.grid);
    let channel = workgroup * CHANNELS_PER_WORKGROUP + invocation.lane % CHANNELS_PER_WORKGROUP;
    var own = Moments(0u, 0.0, 0.0, 0.0);
    if channel < params.channels {
        let lanes = WORKGROUP_SIZE / CHANNELS_PER_WORKGROUP;
        for (var split = invocation.lane / CHANNELS_PER_WORKGROUP; split < params.reduce.count; split += lanes) {
            own = merge(own, partials[split * params.channels + channel]);
        }
    }
    let merged = merge_lanes(own, invocation);
    if has_result(invocation) && channel < params.channels {
        // The biased variance normalises, the unbiased one moves the running average.
        let variance = merged.m2 / f32(merged.count);
        statistics[channel] = Statistics(merged.mean_hi, merged.mean_lo, inverse_deviation(variance), variance);
        move_running_statistics(channel, merged);
    }
}
