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
