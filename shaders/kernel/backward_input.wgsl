// uses: entry, write_elements, data/params, iterate/traversal, statistics/source, epilogue/pre_activation
// uses: backward/input_gradient, backward/projections

// dx = weight * inv_std * (dy - what flows through the mean and the variance of the batch) for every element. Here, dy
// is the gradient of bn(x) + residual, which is dresidual.

fn kernel(invocation: Invocation) {
    var workgroup = invocation.workgroup;
    if REVERSED == 1u {
        // The last workgroups come first: what the reduction has read last is still in the cache.
        workgroup = reversed(workgroup, workgroups_of(params.elementwise));
    }
    let cursor = cursor_begin(workgroup, invocation.lane, params.elementwise);
    var own: array<OfColumn, COLUMNS_PER_LANE>;
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        own[k] = of_channel(channel_of(cursor, k), invocation, split_of(cursor, k) == 0u);
    }
    // A masked load may reach into the next channel's plane: dx of that channel is computed, too.
    var next = own[0];
    if MASKED {
        next = of_channel(next_channel(channel_of(cursor, 0u)), invocation, false);
    }
    write_elements(cursor, own, next);
}

fn of_channel(channel: u32, invocation: Invocation, finishes: bool) -> OfColumn {
    let statistics = channel_statistics(channel, invocation, finishes);
    let projection = channel_projection(channel, statistics, invocation, finishes);
    let gradient = gradient_of(channel, statistics, projection);
    return OfColumn(gradient, pre_activation_of(channel, statistics));
}
