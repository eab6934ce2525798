// uses: entry, lanes, split_result, data/params, iterate/traversal, statistics/source, statistics/type
// uses: epilogue/pre_activation, backward/reduce_sums

// Sums of dy and of dy * (x - mean) of every channel. A workgroup (planes, column blocks) or lane (columns)
// reduces one split and stores its partial result, or what follows from it if the channel is one split. Where dx and
// dresidual need no sums, it may write them besides.

fn kernel(invocation: Invocation) {
    let cursor = cursor_begin(invocation.workgroup, invocation.lane, params.reduction);
    var statistics: array<Statistics, COLUMNS_PER_LANE>;
    var pre_activations: array<PreActivation, COLUMNS_PER_LANE>;
    var besides: array<OfBeside, COLUMNS_PER_LANE>;
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        let channel = channel_of(cursor, k);
        statistics[k] = channel_statistics(channel, invocation, false);
        pre_activations[k] = pre_activation_of(channel, statistics[k]);
        besides[k] = of_beside(channel, statistics[k], pre_activations[k]);
    }
    var own = reduce_sums(cursor, statistics, pre_activations, besides);
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        let merged = reduce_lanes(own[k], invocation);
        if is_leader(invocation) && split_of(cursor, k) < params.reduction.count {
            store_result(split_of(cursor, k), channel_of(cursor, k), merged, invocation);
        }
    }
}
