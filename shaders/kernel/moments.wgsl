// uses: entry, lanes, split_result, data/params, iterate/traversal, forward/reduce_moments

// Moments of every channel: each workgroup (planes) or invocation (columns) reduces one split of a channel,
// and leaves its partial result, or where the whole channel is one split, the statistics.

fn kernel(invocation: Invocation) {
    let traversal = traversal_begin(invocation.workgroup, invocation.lane, params.reduce);
    var own = reduce_moments(traversal);
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        let merged = reduce_lanes(own[k], invocation);
        if is_leader(invocation) && split_of(traversal, k) < params.reduce.count {
            store_result(split_of(traversal, k), channel_of(traversal, k), merged);
        }
    }
}
