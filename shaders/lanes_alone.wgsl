// Every invocation has a channel of its own: nothing to merge, and each writes its result.
fn merge_lanes(own: Partial, invocation: Invocation) -> Partial {
    return own;
}

fn share_lanes(merged: Partial, invocation: Invocation) -> Partial {
    return merged;
}

fn has_result(invocation: Invocation) -> bool {
    return true;
}
