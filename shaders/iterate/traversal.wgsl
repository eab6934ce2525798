// uses: data/params, data/vector

// Which elements an invocation visits: Walk, walk_begin, walk_run, walk_own_run.

// case planes:
// includes: iterate/range, iterate/one_column
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

// case planes_masked:
// uses: data/per_channel
// includes: iterate/one_column
// As walk_planes, with loads of four elements where planes are not a multiple of four long: a load at the
// end of a plane may reach into a neighbouring one, which is of another channel.
const RAGGED: bool = true;

struct Walk {
    channel: u32,
    split: u32,
    lane: u32,
    // The next plane, and the part of each plane.
    outer: u32,
    outer_end: u32,
    inner_begin: u32,
    inner_end: u32,
}

// Loads begin, begin + step, and so on, before end; and the single elements from inside_begin to inside_end
// that are meant.
struct Run {
    begin: u32,
    end: u32,
    step: u32,
    inside_begin: u32,
    inside_end: u32,
}

fn walk_begin(workgroup: u32, lane: u32, splits: Splits) -> Walk {
    var walk: Walk;
    walk.split = workgroup / params.group_channels;
    walk.channel = params.first_channel + workgroup - walk.split * params.group_channels;
    walk.lane = lane % LANES_PER_PLANE;
    if walk.split < splits.count {
        let outer_split = walk.split / splits.of_inner;
        let inner_split = walk.split - outer_split * splits.of_inner;
        walk.outer = outer_split * splits.outer_chunk + lane / LANES_PER_PLANE;
        walk.outer_end = min((outer_split + 1u) * splits.outer_chunk, params.outer);
        walk.inner_begin = inner_split * splits.inner_chunk;
        walk.inner_end = min(walk.inner_begin + splits.inner_chunk, params.inner);
    }
    return walk;
}

fn walk_goes_on(walk: Walk) -> bool {
    return walk.outer < walk.outer_end;
}

// All loads that have an element of the next plane's part.
fn walk_run(walk: ptr<function, Walk>) -> Run {
    let plane = ((*walk).outer * params.channels + (*walk).channel) * params.inner;
    (*walk).outer += WORKGROUP_SIZE / LANES_PER_PLANE;
    let begin = plane + (*walk).inner_begin;
    let end = plane + (*walk).inner_end;
    return Run(begin / WIDTH + (*walk).lane, (end + WIDTH - 1u) / WIDTH, LANES_PER_PLANE, begin, end);
}

// The loads whose first element is in the next plane's part, so that every load is some lane's and no two
// lanes write the same. What is beyond the plane belongs to the next channel.
fn walk_own_run(walk: ptr<function, Walk>) -> Run {
    let plane_end = ((*walk).outer * params.channels + (*walk).channel + 1u) * params.inner;
    var run = walk_run(walk);
    run.begin += select(0u, 1u, run.inside_begin % WIDTH != 0u);
    run.inside_end = plane_end;
    return run;
}

// The channel of the plane behind one of this channel.
fn next_channel(channel: u32) -> u32 {
    return select(channel + 1u, 0u, channel + 1u == params.channels);
}

fn run_stop(run: Run, element: u32, loads: u32) -> u32 {
    return element + min(run.end - element, run.step * loads);
}

fn first_inside(value: Value, run: Run, element: u32) -> Number {
    return select(value.w, value.x, element * WIDTH >= run.inside_begin);
}

// How many elements of a load are inside.
fn values_inside(run: Run, element: u32) -> u32 {
    return min(run.inside_end, element * WIDTH + WIDTH) - max(run.inside_begin, element * WIDTH);
}

fn inside_or_zero(value: Value, run: Run, element: u32) -> Value {
    return inside_or(Value(0.0), value, run, element);
}

// The elements of a load that are inside, and others in the place of the rest.
fn inside_or(other: Value, value: Value, run: Run, element: u32) -> Value {
    let numbers = vec4<u32>(element * WIDTH) + vec4<u32>(0u, 1u, 2u, 3u);
    let inside = (numbers >= vec4<u32>(run.inside_begin)) & (numbers < vec4<u32>(run.inside_end));
    return select(other, value, inside);
}

// case columns:
// includes: iterate/range
// needs: ABREAST
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
