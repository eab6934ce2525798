// Which elements an invocation visits when a channel lies in planes: x[o, c, i] is element
// (o * channels + c) * inner + i. A workgroup takes one split of one channel: some of its planes, and of
// each plane a part. LANES_PER_PLANE neighbouring lanes walk along a plane, so that they read neighbouring
// elements; the workgroup's other lanes are in the next planes meanwhile.
struct Walk {
    channel: u32,
    split: u32,
    // The next plane, and the part of each plane.
    outer: u32,
    outer_end: u32,
    inner_begin: u32,
    inner_end: u32,
}

fn walk_begin(workgroup: u32, lane: u32, splits: Splits) -> Walk {
    var walk: Walk;
    walk.split = workgroup / params.group_channels;
    walk.channel = params.first_channel + workgroup - walk.split * params.group_channels;
    if walk.split < splits.count {
        let outer_split = walk.split / splits.of_inner;
        let inner_split = walk.split - outer_split * splits.of_inner;
        walk.outer = outer_split * splits.outer_chunk + lane / LANES_PER_PLANE;
        walk.outer_end = min((outer_split + 1u) * splits.outer_chunk, params.outer);
        walk.inner_begin = inner_split * splits.inner_chunk / WIDTH + lane % LANES_PER_PLANE;
        walk.inner_end = min((inner_split + 1u) * splits.inner_chunk, params.inner) / WIDTH;
    }
    return walk;
}

fn walk_goes_on(walk: Walk) -> bool {
    return walk.outer < walk.outer_end;
}

// The lane's part of the next plane.
fn walk_run(walk: ptr<function, Walk>) -> Run {
    let plane = ((*walk).outer * params.channels + (*walk).channel) * (params.inner / WIDTH);
    (*walk).outer += WORKGROUP_SIZE / LANES_PER_PLANE;
    return Run(plane + (*walk).inner_begin, plane + (*walk).inner_end, LANES_PER_PLANE);
}

// What the lane writes is what it reads.
fn walk_own_run(walk: ptr<function, Walk>) -> Run {
    return walk_run(walk);
}
