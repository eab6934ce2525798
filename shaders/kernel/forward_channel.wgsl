// uses: entry, lanes, data/params, iterate/traversal, tensors/x, tensors/y, epilogue/activation
// uses: epilogue/residual, forward/finish_channel, forward/reduce_moments, forward/scale_shift

// The whole forward pass in training, for channels that one workgroup (planes) or invocation (columns)
// reduces alone: what it has just read is still in the cache when it is read again to be normalised.

fn kernel(invocation: Invocation) {
    var walk = walk_begin(invocation.workgroup, invocation.lane, params.reduce);
    var own = moments_of(walk);
    var normal: array<Normal, ABREAST>;
    for (var k = 0u; k < ABREAST; k++) {
        let channel = walk_channel(walk, k);
        let merged = share_lanes(merge_lanes(own[k], invocation), invocation);
        if has_result(invocation) && walk_split(walk, k) < params.reduce.count {
            conclude(channel, merged);
        }
        normal[k] = normal_of(channel, batch_statistics(merged));
    }
    while walk_goes_on(walk) {
        let run = walk_own_run(&walk);
        for (var element = run.begin; element < run.end; element += run.step) {
            for (var k = 0u; k < ABREAST; k++) {
                if has_beside(walk, k) {
                    let y = normalized(load_x(beside(element, k)), normal[k]);
                    store_y(beside(element, k), activated(with_residual(y, beside(element, k))));
                }
            }
        }
    }
}
