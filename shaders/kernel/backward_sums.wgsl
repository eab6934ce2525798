// uses: entry, lanes, split_result, data/params, iterate/traversal, statistics/source, statistics/type
// uses: epilogue/pre_activation, backward/reduce_sums

// Sums of dy and of dy * (x - mean) of every channel: each workgroup (planes) or invocation (columns)
// reduces one split of a channel, and leaves its partial result, or where the whole channel is one split,
// what follows from it.

fn kernel(invocation: Invocation) {
    let walk = walk_begin(invocation.workgroup, invocation.lane, params.reduce);
    var statistics: array<Statistics, ABREAST>;
    var gates: array<Gate, ABREAST>;
    for (var k = 0u; k < ABREAST; k++) {
        statistics[k] = channel_statistics(walk_channel(walk, k));
        gates[k] = gate_of(walk_channel(walk, k), statistics[k]);
    }
    var own = sums_of(walk, statistics, gates);
    for (var k = 0u; k < ABREAST; k++) {
        let merged = merge_lanes(own[k], invocation);
        if has_result(invocation) && walk_split(walk, k) < params.reduce.count {
            store_result(walk_split(walk, k), walk_channel(walk, k), merged);
        }
    }
}
