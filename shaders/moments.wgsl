// Moments of every channel: each workgroup (planes) or invocation (columns) reduces one split of a channel,
// and leaves its partial result, or where the whole channel is one split, the statistics.

@compute @workgroup_size(WORKGROUP_SIZE)
fn moments(invocation: Invocation) {
    params = uniform_params;
    let workgroup = linear_workgroup(invocation.workgroup, invocation.grid);
    touch_tile(workgroup, invocation.lane, params.reduce);
    for (var part = 0u; part < PARTS; part++) {
        let walk = walk_begin(workgroup, invocation.lane, part, params.reduce);
        let merged = merge_lanes(moments_of(walk), invocation);
        if has_result(invocation) && walk.split < params.reduce.count {
            store_result(walk.split, walk.channel, merged);
        }
    }
}

// See `touch_tile`.
fn touch(element: u32) -> u32 {
    return touch_x(element);
}
