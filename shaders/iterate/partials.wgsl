// uses: entry, lanes, data/params
// needs: Partial, merge, unpack

// The merge of all partial results of a channel: merged_channel. A workgroup takes LANES_ACROSS channels.
// Lanes whose numbers are equal modulo that share one, and the first of them gets the result.

@group(0) @binding(9) var<storage, read> partials: array<vec4<u32>>;

struct MergedChannel {
    channel: u32,
    merged: Partial,
    // Whether this lane has a channel, and its result.
    is_valid: bool,
}

fn merged_channel(invocation: Invocation) -> MergedChannel {
    let in_group = invocation.workgroup * LANES_ACROSS + invocation.lane % LANES_ACROSS;
    let channel = params.first_channel + in_group;
    var own = Partial();
    if in_group < params.group_channels {
        let lanes = WORKGROUP_SIZE / LANES_ACROSS;
        for (var split = invocation.lane / LANES_ACROSS; split < params.reduction.count; split += lanes) {
            own = merge(own, unpack(partials[split * params.channels + channel]));
        }
    }
    let merged = reduce_lanes(own, invocation);
    return MergedChannel(channel, merged, is_leader(invocation) && in_group < params.group_channels);
}
