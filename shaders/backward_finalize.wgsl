// Merges the partial sums of every channel: dbias = sum of dy, dweight = sum of dy * x_hat, and what
// `backward_input` needs of them. A workgroup takes CHANNELS_PER_WORKGROUP channels; its lanes with equal
// numbers modulo that share one.

@group(0) @binding(9) var<storage, read> partials: array<Partial>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn backward_finalize(invocation: Invocation) {
    let workgroup = linear_workgroup(invocation.workgroup, invocation.grid);
    let channel = workgroup * CHANNELS_PER_WORKGROUP + invocation.lane % CHANNELS_PER_WORKGROUP;
    var own = Sums(vec2<f32>(), vec2<f32>());
    if channel < params.channels {
        let lanes = WORKGROUP_SIZE / CHANNELS_PER_WORKGROUP;
        for (var split = invocation.lane / CHANNELS_PER_WORKGROUP; split < params.reduce.count; split += lanes) {
            own = merge(own, partials[split * params.channels + channel]);
        }
    }
    let merged = merge_lanes(own, invocation);
    if has_result(invocation) && channel < params.channels {
        let of_channel = channel_statistics(channel);
        store_dbias(channel, merged.dy.x);
        store_dweight(channel, merged.product.x * of_channel.inv_std);
        store_projection(channel, merged, of_channel);
    }
}
