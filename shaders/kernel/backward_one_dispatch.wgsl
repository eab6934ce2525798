// uses: entry, lanes, write_elements, data/params, iterate/traversal, statistics/source, statistics/type
// uses: epilogue/pre_activation, backward/finish_channel, backward/input_gradient, backward/projection_of
// uses: backward/reduce_sums

// The whole backward pass through batch statistics in one dispatch: each workgroup (planes, column
// blocks) or lane (columns) has whole channels. What it has just read is still in the cache when it is read again.

fn kernel(invocation: Invocation) {
    let cursor = cursor_begin(invocation.workgroup, invocation.lane, params.reduction);
    var statistics: array<Statistics, COLUMNS_PER_LANE>;
    var pre_activations: array<PreActivation, COLUMNS_PER_LANE>;
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        statistics[k] = channel_statistics(channel_of(cursor, k), invocation, false);
        pre_activations[k] = pre_activation_of(channel_of(cursor, k), statistics[k]);
    }
    let besides = array<OfBeside, COLUMNS_PER_LANE>();
    var own = reduce_sums(cursor, statistics, pre_activations, besides);
    var of_column: array<OfColumn, COLUMNS_PER_LANE>;
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        let channel = channel_of(cursor, k);
        let merged = broadcast(reduce_lanes(own[k], invocation), invocation);
        if is_leader(invocation) && split_of(cursor, k) < params.reduction.count {
            finish_channel(channel, merged, statistics[k]);
        }
        let gradient = gradient_of(channel, statistics[k], projection_of(merged, statistics[k]));
        of_column[k] = OfColumn(gradient, pre_activations[k]);
    }
    write_elements(cursor, of_column, of_column[0]);
}
