// uses: entry, lanes, split_result, data/params, iterate/traversal, forward/reduce_moments

// Moments of every channel. A workgroup (planes, column blocks) or lane (columns) reduces one split and stores its
// partial result, or the statistics if the channel is one split.

fn kernel(invocation: Invocation) {
    let cursor = cursor_begin(invocation.workgroup, invocation.lane, params.reduction);
    var own = reduce_moments(cursor);
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        let merged = reduce_lanes(own[k], invocation);
        if is_leader(invocation) && split_of(cursor, k) < params.reduction.count {
            store_result(split_of(cursor, k), channel_of(cursor, k), merged, invocation);
        }
    }
}
