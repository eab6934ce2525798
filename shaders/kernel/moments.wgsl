// uses: entry, lanes, split_result, data/params, iterate/traversal, forward/reduce_moments

// Moments of every channel: each workgroup (planes) or invocation (columns) reduces one split of a channel,
// and leaves its partial result, or where the whole channel is one split, the statistics.

fn kernel(invocation: Invocation) {
    let walk = walk_begin(invocation.workgroup, invocation.lane, params.reduce);
    var own = moments_of(walk);
    for (var k = 0u; k < ABREAST; k++) {
        let merged = merge_lanes(own[k], invocation);
        if has_result(invocation) && walk_split(walk, k) < params.reduce.count {
            store_result(walk_split(walk, k), walk_channel(walk, k), merged);
        }
    }
}
