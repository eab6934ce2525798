// uses: entry, write_elements, data/params, iterate/traversal, statistics/source, forward/scale_shift

// Normalises every element, then scales and shifts it.

fn kernel(invocation: Invocation) {
    var workgroup = invocation.workgroup;
    if REVERSED == 1u {
        // The last workgroups come first: what the reduction has read last is still in the cache.
        workgroup = reversed(workgroup, workgroups_of(params.elementwise));
    }
    let cursor = cursor_begin(workgroup, invocation.lane, params.elementwise);
    var own: array<ScaleShift, COLUMNS_PER_LANE>;
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        let channel = channel_of(cursor, k);
        own[k] = scale_shift_of(channel, channel_statistics(channel, invocation, split_of(cursor, k) == 0u));
    }
    // A masked load may reach into the next channel's plane: that channel is normalised, too.
    var next = own[0];
    if MASKED {
        let channel = next_channel(channel_of(cursor, 0u));
        next = scale_shift_of(channel, channel_statistics(channel, invocation, false));
    }
    write_elements(cursor, own, next);
}
