// The whole forward pass in training, for channels that one workgroup (planes) or invocation (columns)
// reduces alone: what it has just read is still in the cache when it is read again to be normalised.

@compute @workgroup_size(WORKGROUP_SIZE)
fn forward_channel(invocation: Invocation) {
    params = uniform_params;
    let workgroup = linear_workgroup(invocation.workgroup, invocation.grid);
    touch_tile(workgroup, invocation.lane, params.reduce);
    for (var part = 0u; part < PARTS; part++) {
        var walk = walk_begin(workgroup, invocation.lane, part, params.reduce);
        let merged = share_lanes(merge_lanes(moments_of(walk), invocation), invocation);
        if has_result(invocation) && walk.split < params.reduce.count {
            conclude(walk.channel, merged);
        }
        let normal = normal_of(walk.channel, batch_statistics(merged));
        while walk_goes_on(walk) {
            let run = walk_own_run(&walk);
            for (var element = run.begin; element < run.end; element += run.step) {
                store_y(element, normalized(load_x(element), normal));
            }
        }
    }
}
