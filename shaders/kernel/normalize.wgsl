// uses: entry, data/params, iterate/traversal, tensors/x, tensors/y, statistics/source, epilogue/activation
// uses: epilogue/residual, forward/scale_shift

// Normalises every element, then scales and shifts it.

fn kernel(invocation: Invocation) {
    var workgroup = invocation.workgroup;
    if REVERSED == 1u {
        // The last workgroups come first: what the reduction has read last is still in the cache.
        workgroup = reversed(workgroup, workgroups_of(params.elementwise));
    }
    var traversal = traversal_begin(workgroup, invocation.lane, params.elementwise);
    var own: array<ScaleShift, COLUMNS_PER_LANE>;
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        let channel = channel_of(traversal, k);
        own[k] = scale_shift_of(channel, channel_statistics(channel));
    }
    // A masked load may reach into the next channel's plane: that channel is normalised, too.
    var next = own[0];
    if MASKED {
        let channel = next_channel(channel_of(traversal, 0u));
        next = scale_shift_of(channel, channel_statistics(channel));
    }
    while has_next(traversal) {
        let range = next_store_range(&traversal);
        for (var element = range.begin; element < range.end; element += range.step) {
            for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                if has_column(traversal, k) {
                    let value = load_x(column(element, k));
                    let inside = select_inside(apply(value, next), apply(value, own[k]), range, element);
                    store_y(column(element, k), activated(with_residual(inside, column(element, k))));
                }
            }
        }
    }
}
