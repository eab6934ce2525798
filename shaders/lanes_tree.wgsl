// Merges partial results across a workgroup through workgroup memory: the lanes whose numbers are equal modulo
// CHANNELS_PER_WORKGROUP (a power of two, like WORKGROUP_SIZE) share a channel. The first lanes, one for
// each channel, end up with the results. The order of merging is fixed.
var<workgroup> sh_partials: array<Partial, WORKGROUP_SIZE>;

fn merge_lanes(own: Partial, invocation: Invocation) -> Partial {
    let lane = invocation.lane;
    sh_partials[lane] = own;
    for (var reach = WORKGROUP_SIZE / 2u; reach >= CHANNELS_PER_WORKGROUP; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            sh_partials[lane] = merge(sh_partials[lane], sh_partials[lane + reach]);
        }
    }
    return sh_partials[lane];
}

// The merged result, in every lane of its channel.
fn share_lanes(merged: Partial, invocation: Invocation) -> Partial {
    workgroupBarrier();
    return sh_partials[invocation.lane % CHANNELS_PER_WORKGROUP];
}

fn has_result(invocation: Invocation) -> bool {
    return invocation.lane < CHANNELS_PER_WORKGROUP;
}
