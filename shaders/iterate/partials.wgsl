// uses: entry, lanes, data/params
// uses: data/per_channel
// needs: Partial, merge, unpack, with_channel

// The merge of all partial results of a channel, or of the channels of a column: merged_channel. The lanes that share a
// channel take its results in turn, and the order is fixed.

@group(0) @binding(9) var<storage, read> partials: array<vec4<u32>>;

// How many splits a lane loads before it merges the first: four loads.
const SPLITS_AT_ONCE: u32 = 4u / CHANNELS_PER_VECTOR;

// Some of the results of a channel, or of those that are computed at once, step apart.
fn every_split(channel: u32, first: u32, step: u32) -> Partial {
    var own = Partial();
    for (var split = first; split < params.reduction.count; split += SPLITS_AT_ONCE * step) {
        let a = of_split(channel, split);
        if SPLITS_AT_ONCE == 1u {
            own = merge(own, a);
            continue;
        }
        let b = of_split(channel, split + step);
        let c = of_split(channel, split + 2u * step);
        let d = of_split(channel, split + 3u * step);
        own = merge(merge(own, merge(a, b)), merge(c, d));
    }
    return own;
}

// The results of a split, or nothing behind the last one.
fn of_split(channel: u32, split: u32) -> Partial {
    let count = params.reduction.count;
    var found = Partial();
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        let words = partials[channel_after(channel, k) * count + min(split, count - 1u)];
        found = with_channel(found, k, unpack(select(vec4<u32>(0u), words, split < count)));
    }
    return found;
}

// case by_channel:
struct MergedChannel {
    channel: u32,
    merged: Partial,
    // Whether this lane has a channel, and its result.
    is_valid: bool,
}

// A workgroup takes LANES_ACROSS channels. Lanes whose numbers are equal modulo that share one, and the first of them
// gets the result.
fn merged_channel(invocation: Invocation) -> MergedChannel {
    let in_group = invocation.workgroup * LANES_ACROSS + invocation.lane % LANES_ACROSS;
    let channel = params.first_channel + in_group;
    var own = Partial();
    if in_group < params.group_channels {
        own = every_split(channel, invocation.lane / LANES_ACROSS, WORKGROUP_SIZE / LANES_ACROSS);
    }
    let merged = reduce_lanes(own, invocation);
    return MergedChannel(channel, merged, is_leader(invocation) && in_group < params.group_channels);
}

// case by_workgroup:
// All lanes of the workgroup share a channel, and each gets the result.
fn merged_channel(channel: u32, invocation: Invocation) -> Partial {
    // Another channel may have been merged before.
    workgroupBarrier();
    let own = every_split(channel, invocation.lane, WORKGROUP_SIZE);
    return broadcast(reduce_lanes(own, invocation), invocation);
}

// case by_column:
// The lanes of a column share its channels, and each gets their results.
fn merged_channel(channel: u32, invocation: Invocation) -> Partial {
    let own = every_split(channel, invocation.lane / LANES_ACROSS, WORKGROUP_SIZE / LANES_ACROSS);
    return broadcast(reduce_lanes(own, invocation), invocation);
}
