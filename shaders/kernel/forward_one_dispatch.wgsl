// uses: entry, lanes, write_elements, data/params, iterate/traversal, forward/finish_channel, forward/reduce_moments
// uses: forward/scale_shift

// The whole forward pass in training in one dispatch: each workgroup (planes, column blocks) or lane (columns) has
// whole channels. What it has just read is still in the cache when it is read again.

fn kernel(invocation: Invocation) {
    let cursor = cursor_begin(invocation.workgroup, invocation.lane, params.reduction);
    var own = reduce_moments(cursor);
    var scale_shift: array<ScaleShift, COLUMNS_PER_LANE>;
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        let channel = channel_of(cursor, k);
        let merged = broadcast(reduce_lanes(own[k], invocation), invocation);
        if is_leader(invocation) && split_of(cursor, k) < params.reduction.count {
            finish_channel(channel, merged);
        }
        scale_shift[k] = scale_shift_of(channel, batch_statistics(merged));
    }
    write_elements(cursor, scale_shift, scale_shift[0]);
}
