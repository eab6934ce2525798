// uses: entry, lanes, data/params
// needs: Partial, merge, unpack

// The merge of all partial results of a channel: merged_channel. A workgroup takes CHANNELS_PER_WORKGROUP channels.
// Lanes whose numbers are equal modulo that share one, and the first of them gets the result.

@group(0) @binding(9) var<storage, read> partials: array<vec4<u32>>;

struct MergedChannel {
    channel: u32,
    merged: Partial,
    // Whether this lane has a channel, and its result.
    is_valid: bool,
}

fn merged_channel(invocation: Invocation) -> MergedChannel {
    let in_group = invocation.workgroup * CHANNELS_PER_WORKGROUP + invocation.lane % CHANNELS_PER_WORKGROUP;
    let channel = params.first_channel + in_group;
    var own = Partial();
    if in_group < params.group_channels {
        let lanes = WORKGROUP_SIZE / CHANNELS_PER_WORKGROUP;
        for (var split = invocation.lane / CHANNELS_PER_WORKGROUP; split < params.reduction.count; split += lanes) {
            own = merge(own, unpack(partials[split * params.channels + channel]));
        }
    }
    let merged = reduce_lanes(own, invocation);
    return MergedChannel(channel, merged, is_leader(invocation) && in_group < params.group_channels);
}
