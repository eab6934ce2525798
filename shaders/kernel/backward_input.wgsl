// uses: entry, data/params, iterate/traversal, tensors/dx, tensors/dy, tensors/dz, tensors/x
// uses: statistics/source, epilogue/pre_activation, backward/deviation, backward/input_gradient
// uses: backward/projections

// dx = weight * inv_std * (dy - what flows through the mean and the variance of the batch) for every element. Here, dy
// is the gradient of bn(x) + z, which is dz.

fn kernel(invocation: Invocation) {
    var workgroup = invocation.workgroup;
    if REVERSED == 1u {
        // The last workgroups come first: what the reduction has read last is still in the cache.
        workgroup = reversed(workgroup, workgroups_of(params.elementwise));
    }
    var traversal = traversal_begin(workgroup, invocation.lane, params.elementwise);
    var own: array<Gradient, COLUMNS_PER_LANE>;
    var pre_activation: array<PreActivation, COLUMNS_PER_LANE>;
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        let channel = channel_of(traversal, k);
        let statistics = channel_statistics(channel);
        own[k] = gradient_of(channel, statistics, channel_projection(channel));
        pre_activation[k] = pre_activation_of(channel, statistics);
    }
    // A masked load may reach into the next channel's plane: dx of that channel is computed, too.
    var next = own[0];
    var next_pre_activation = pre_activation[0];
    if MASKED {
        let after = next_channel(channel_of(traversal, 0u));
        let statistics = channel_statistics(after);
        next = gradient_of(after, statistics, channel_projection(after));
        next_pre_activation = pre_activation_of(after, statistics);
    }
    while has_next(traversal) {
        let range = next_store_range(&traversal);
        for (var element = range.begin; element < range.end; element += range.step) {
            for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                if has_column(traversal, k) {
                    let x = load_x(column(element, k));
                    let loaded_dy = load_dy(column(element, k));
                    var dy = through_pre_activation(loaded_dy, x, column(element, k), pre_activation[k]);
                    var of_x = input_gradient(dy, deviation_of(x, own[k].statistics), own[k]);
                    if MASKED {
                        let deviation = deviation_of(x, next.statistics);
                        let next_dy = through_pre_activation(loaded_dy, x, element, next_pre_activation);
                        of_x = select_inside(input_gradient(next_dy, deviation, next), of_x, range, element);
                        dy = select_inside(next_dy, dy, range, element);
                    }
                    store_dz(column(element, k), dy);
                    store_dx(column(element, k), of_x);
                }
            }
        }
    }
}
