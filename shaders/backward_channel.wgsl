// The whole backward pass through batch statistics, for channels that one workgroup (planes) or invocation
// (columns) reduces alone: what it has just read is still in the cache when it is read again.

@compute @workgroup_size(WORKGROUP_SIZE)
fn backward_channel(invocation: Invocation) {
    params = uniform_params;
    let workgroup = linear_workgroup(invocation.workgroup, invocation.grid);
    touch_tile(workgroup, invocation.lane, params.reduce);
    for (var part = 0u; part < PARTS; part++) {
        var walk = walk_begin(workgroup, invocation.lane, part, params.reduce);
        let statistics = channel_statistics(walk.channel);
        let merged = share_lanes(merge_lanes(sums_of(walk, statistics), invocation), invocation);
        if has_result(invocation) && walk.split < params.reduce.count {
            conclude(walk.channel, merged, statistics);
        }
        let gradient = gradient_of(walk.channel, statistics, projection_of(merged, statistics));
        while walk_goes_on(walk) {
            let run = walk_own_run(&walk);
            for (var element = run.begin; element < run.end; element += run.step) {
                let away = deviation(load_x(element), statistics);
                store_dx(element, input_gradient(load_dy(element), away, gradient));
            }
        }
    }
}
