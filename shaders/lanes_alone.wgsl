// Every invocation has a channel of its own: nothing to merge, and each writes its result.
struct Invocation {
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
}

fn merge_lanes(own: Partial, invocation: Invocation) -> Partial {
    return own;
}

fn share_lanes(merged: Partial, invocation: Invocation) -> Partial {
    return merged;
}

fn has_result(invocation: Invocation) -> bool {
    return true;
}
