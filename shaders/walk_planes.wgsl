// Which values an invocation visits when a channel lies in planes: x[o, c, i] is element
// (o * channels + c) * inner + i. A workgroup takes one split of one channel: some of its planes, and of
// each plane a part. LANES_PER_PLANE neighbouring lanes walk along a plane, so that they read neighbouring
// elements; where planes are small, the workgroup's other lanes are in the next planes meanwhile.
struct Walk {
    channel: u32,
    split: u32,
    // The next plane, and the part of each plane.
    outer: u32,
    outer_end: u32,
    inner_begin: u32,
    inner_end: u32,
}

// Elements begin, begin + step, and so on, before end.
struct Run {
    begin: u32,
    end: u32,
    step: u32,
}

fn walk_begin(workgroup: u32, lane: u32, splits: Splits) -> Walk {
    var walk: Walk;
    walk.channel = workgroup % params.channels;
    walk.split = workgroup / params.channels;
    if walk.split < splits.count {
        let outer_split = walk.split / splits.of_inner;
        let inner_split = walk.split % splits.of_inner;
        walk.outer = outer_split * splits.outer_chunk + lane / LANES_PER_PLANE;
        walk.outer_end = min((outer_split + 1u) * splits.outer_chunk, params.outer);
        walk.inner_begin = inner_split * splits.inner_chunk + lane % LANES_PER_PLANE;
        walk.inner_end = min((inner_split + 1u) * splits.inner_chunk, params.inner);
    }
    return walk;
}

fn walk_goes_on(walk: Walk) -> bool {
    return walk.outer < walk.outer_end;
}

fn walk_run(walk: ptr<function, Walk>) -> Run {
    let plane = ((*walk).outer * params.channels + (*walk).channel) * params.inner;
    (*walk).outer += WORKGROUP_SIZE / LANES_PER_PLANE;
    return Run(plane + (*walk).inner_begin, plane + (*walk).inner_end, LANES_PER_PLANE);
}
