// Sums of dy and of dy * (x - mean) of every channel: each workgroup (planes) or invocation (columns)
// reduces one split of a channel, and leaves its partial result, or where the whole channel is one split,
// what follows from it.

@compute @workgroup_size(WORKGROUP_SIZE)
fn backward_sums(invocation: Invocation) {
    params = uniform_params;
    let workgroup = linear_workgroup(invocation.workgroup, invocation.grid);
    touch_tile(workgroup, invocation.lane, params.reduce);
    for (var part = 0u; part < PARTS; part++) {
        let walk = walk_begin(workgroup, invocation.lane, part, params.reduce);
        let merged = merge_lanes(sums_of(walk, channel_statistics(walk.channel)), invocation);
        if has_result(invocation) && walk.split < params.reduce.count {
            store_result(walk.split, walk.channel, merged);
        }
    }
}

// See `touch_tile`.
fn touch(element: u32) -> u32 {
    return touch_x(element) | touch_dy(element);
}
