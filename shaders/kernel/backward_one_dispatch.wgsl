// uses: entry, lanes, data/params, iterate/traversal, tensors/dx, tensors/dy, tensors/dz, tensors/x
// uses: statistics/source, statistics/type, epilogue/pre_activation, backward/deviation
// uses: backward/finish_channel, backward/input_gradient, backward/projection_of, backward/reduce_sums

// The whole backward pass through batch statistics in one dispatch: each workgroup (planes, column
// blocks) or lane (columns) has whole channels. What it has just read is still in the cache when it is read again.

fn kernel(invocation: Invocation) {
    var traversal = traversal_begin(invocation.workgroup, invocation.lane, params.reduction);
    var statistics: array<Statistics, COLUMNS_PER_LANE>;
    var pre_activations: array<PreActivation, COLUMNS_PER_LANE>;
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        statistics[k] = channel_statistics(channel_of(traversal, k));
        pre_activations[k] = pre_activation_of(channel_of(traversal, k), statistics[k]);
    }
    var own = reduce_sums(traversal, statistics, pre_activations);
    var gradient: array<Gradient, COLUMNS_PER_LANE>;
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        let channel = channel_of(traversal, k);
        let merged = broadcast(reduce_lanes(own[k], invocation), invocation);
        if is_leader(invocation) && split_of(traversal, k) < params.reduction.count {
            finish_channel(channel, merged, statistics[k]);
        }
        gradient[k] = gradient_of(channel, statistics[k], projection_of(merged, statistics[k]));
    }
    while has_next(traversal) {
        let range = next_store_range(&traversal);
        for (var element = range.begin; element < range.end; element += range.step) {
            for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                if has_column(traversal, k) {
                    let x = load_x(column(element, k));
                    let deviation = deviation_of(x, gradient[k].statistics);
                    let loaded_dy = load_dy(column(element, k));
                    let dy = through_pre_activation(loaded_dy, x, column(element, k), pre_activations[k]);
                    store_dz(column(element, k), dy);
                    store_dx(column(element, k), input_gradient(dy, deviation, gradient[k]));
                }
            }
        }
    }
}
