// Which elements an invocation visits when channels are neighbours (inner = 1): x[o, c] is element
// o * channels + c. The rows are divided into periods of inner_chunk loads, a whole number of rows that is
// also a whole number of loads, and a workgroup takes outer_chunk periods: a block. Of each period an
// invocation takes the same places, so that it keeps to its channels: ABREAST of them, or four times as many.
// Neighbouring invocations read neighbouring elements, and a workgroup so many in a row that a processor which
// fetches ahead along a line of memory does. With more than one abreast, the last period is whole. of_inner
// workgroups share a block.
struct Walk {
    // The first place, among those of all blocks: partial results lie in this order.
    place: u32,
    // How many there are abreast.
    abreast: u32,
    run: Run,
}

fn walk_begin(workgroup: u32, lane: u32, splits: Splits) -> Walk {
    let block = workgroup / splits.of_inner;
    let place = (workgroup - block * splits.of_inner) * ABREAST * WORKGROUP_SIZE + lane;
    let begin = block * splits.outer_chunk * splits.inner_chunk;
    let loads = params.outer * params.channels / WIDTH;
    let end = min(begin + splits.outer_chunk * splits.inner_chunk, loads);
    var walk: Walk;
    if place < splits.inner_chunk && begin < end {
        walk.place = block * splits.inner_chunk + place;
        walk.abreast = min((splits.inner_chunk - place + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE, ABREAST);
        walk.run = Run(begin + place, end, splits.inner_chunk);
    }
    return walk;
}

// Whether there is a k-th place abreast, and its element beside that of the first. Where there is none, that is
// some other one: reading it does no harm.
fn has_beside(walk: Walk, k: u32) -> bool {
    return k < walk.abreast;
}

fn beside(element: u32, k: u32) -> u32 {
    return element + k * WORKGROUP_SIZE;
}

fn walk_channel(walk: Walk, k: u32) -> u32 {
    return beside(walk.place, k) * WIDTH % params.channels;
}

// The places of a channel are a multiple of channels apart.
fn walk_split(walk: Walk, k: u32) -> u32 {
    return select(params.reduce.count, beside(walk.place, k) * WIDTH / params.channels, has_beside(walk, k));
}

fn walk_goes_on(walk: Walk) -> bool {
    return walk.run.begin < walk.run.end;
}

// All of it is one run.
fn walk_run(walk: ptr<function, Walk>) -> Run {
    let run = (*walk).run;
    (*walk).run.end = 0u;
    return run;
}

// What the invocation writes is what it reads.
fn walk_own_run(walk: ptr<function, Walk>) -> Run {
    return walk_run(walk);
}
