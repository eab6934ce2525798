// uses: entry, lanes, data/params, iterate/traversal, tensors/x, tensors/y, epilogue/activation
// uses: epilogue/residual, forward/finish_channel, forward/reduce_moments, forward/scale_shift

// The whole forward pass in training in one dispatch: each workgroup (planes, column blocks) or lane (columns) has
// whole channels. What it has just read is still in the cache when it is read again.

fn kernel(invocation: Invocation) {
    var traversal = traversal_begin(invocation.workgroup, invocation.lane, params.reduction);
    var own = reduce_moments(traversal);
    var scale_shift: array<ScaleShift, COLUMNS_PER_LANE>;
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        let channel = channel_of(traversal, k);
        let merged = broadcast(reduce_lanes(own[k], invocation), invocation);
        if is_leader(invocation) && split_of(traversal, k) < params.reduction.count {
            finish_channel(channel, merged);
        }
        scale_shift[k] = scale_shift_of(channel, batch_statistics(merged));
    }
    while has_next(traversal) {
        let range = next_store_range(&traversal);
        for (var element = range.begin; element < range.end; element += range.step) {
            for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                if has_column(traversal, k) {
                    let y = apply(load_x(column(element, k)), scale_shift[k]);
                    store_y(column(element, k), activated(with_residual(y, column(element, k))));
                }
            }
        }
    }
}
