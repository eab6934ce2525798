// Moments of every channel: each workgroup (planes) or invocation (columns) reduces one split of a channel,
// and leaves its partial result, or where the whole channel is one split, the statistics.

@compute @workgroup_size(WORKGROUP_SIZE)
fn moments(invocation: Invocation) {
    params = uniform_params;
    let workgroup = linear_workgroup(invocation.workgroup, invocation.grid);
    let walk = walk_begin(workgroup, invocation.lane, params.reduce);
    var own = moments_of(walk);
    for (var k = 0u; k < ABREAST; k++) {
        let merged = merge_lanes(own[k], invocation);
        if has_result(invocation) && walk_split(walk, k) < params.reduce.count {
            store_result(walk_split(walk, k), walk_channel(walk, k), merged);
        }
    }
}
