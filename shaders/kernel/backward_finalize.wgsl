// uses: entry, lanes, data/params, statistics/source, backward/finish_channel, backward/sums

// Merges the partial sums of every channel into the gradients of its parameters, and into what `backward_input` needs.
// A workgroup takes CHANNELS_PER_WORKGROUP channels. Lanes whose numbers are equal modulo
// that share one.

@group(0) @binding(9) var<storage, read> partials: array<vec4<u32>>;

fn kernel(invocation: Invocation) {
    let in_group = invocation.workgroup * CHANNELS_PER_WORKGROUP + invocation.lane % CHANNELS_PER_WORKGROUP;
    let channel = params.first_channel + in_group;
    var own = Sums();
    if in_group < params.group_channels {
        let lanes = WORKGROUP_SIZE / CHANNELS_PER_WORKGROUP;
        for (var split = invocation.lane / CHANNELS_PER_WORKGROUP; split < params.reduction.count; split += lanes) {
            own = merge(own, unpack(partials[split * params.channels + channel]));
        }
    }
    let merged = reduce_lanes(own, invocation);
    if is_leader(invocation) && in_group < params.group_channels {
        finish_channel(channel, merged, channel_statistics(channel));
    }
}
