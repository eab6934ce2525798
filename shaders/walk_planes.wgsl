// Which values an invocation visits when a channel lies in planes: x[o, c, i] is element
// (o * channels + c) * inner + i. A workgroup takes one split of one channel: values
// split * chunk .. (split + 1) * chunk of that channel, counted over all its planes, dealt out lane by
// lane, so that neighbouring lanes read neighbouring elements and no lane idles in a small plane.
struct Walk {
    channel: u32,
    split: u32,
    // The next value and its place in plane and tensor.
    value: u32,
    end: u32,
    inner: u32,
    element: u32,
    // What a step of WORKGROUP_SIZE values adds; `wrap` leads on to the channel's next plane.
    step_inner: u32,
    step_element: u32,
    wrap: u32,
}

fn walk_begin(workgroup: u32, lane: u32, splits: u32, chunk: u32) -> Walk {
    var walk: Walk;
    walk.channel = workgroup % params.channels;
    walk.split = workgroup / params.channels;
    if walk.split < splits {
        walk.value = walk.split * chunk + lane;
        walk.end = min((walk.split + 1u) * chunk, params.values);
    }
    let plane = params.channels * params.inner;
    walk.inner = walk.value % params.inner;
    walk.element = (walk.value / params.inner) * plane + walk.channel * params.inner + walk.inner;
    walk.step_inner = WORKGROUP_SIZE % params.inner;
    walk.step_element = (WORKGROUP_SIZE / params.inner) * plane + walk.step_inner;
    walk.wrap = plane - params.inner;
    return walk;
}

fn walk_on(walk: ptr<function, Walk>) {
    (*walk).value += WORKGROUP_SIZE;
    (*walk).inner += (*walk).step_inner;
    (*walk).element += (*walk).step_element;
    if (*walk).inner >= params.inner {
        (*walk).inner -= params.inner;
        (*walk).element += (*walk).wrap;
    }
}
