// Which values an invocation visits when channels are neighbours (inner = 1): x[o, c] is element
// o * channels + c. Invocation t takes channel t % channels and every splits-th row, beginning with row
// t / channels: element t, t + splits * channels, and so on. Neighbouring invocations always read
// neighbouring elements, and each keeps to one channel.
struct Walk {
    channel: u32,
    split: u32,
    // The next row and its element.
    value: u32,
    end: u32,
    element: u32,
    step_value: u32,
    step_element: u32,
}

fn walk_begin(workgroup: u32, lane: u32, splits: u32, chunk: u32) -> Walk {
    let invocation = workgroup * WORKGROUP_SIZE + lane;
    var walk: Walk;
    walk.channel = invocation % params.channels;
    walk.split = invocation / params.channels;
    walk.value = walk.split;
    walk.end = select(0u, params.values, walk.split < splits);
    walk.element = invocation;
    walk.step_value = splits;
    walk.step_element = splits * params.channels;
    return walk;
}

fn walk_on(walk: ptr<function, Walk>) {
    (*walk).value += (*walk).step_value;
    (*walk).element += (*walk).step_element;
}
