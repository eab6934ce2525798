// uses: data/params, data/vector
// needs: cursor

// The loads of an invocation whose workgroup keeps whole channels in registers: Cursor, cursor_begin, cursor_next.

// case planes:
// A workgroup takes all planes of one channel, in the order of memory, all lanes side by side, so that none is idle
// before the end.
struct Cursor {
    channel: u32,
    // How many loads the invocation has in all.
    loads: u32,
    // The present one, and its number in its plane.
    element: u32,
    along: u32,
    // The distance to the next load, in all and along the plane, and what is added at a plane's end.
    step: u32,
    step_along: u32,
    skip: u32,
    // An element that the workgroup has in any case.
    spare: u32,
}

fn cursor_begin(workgroup: u32, lane: u32) -> Cursor {
    var begin: Cursor;
    begin.channel = workgroup;
    let length = params.inner / VECTOR_WIDTH;
    if workgroup < params.channels {
        begin.loads = (params.outer * length + WORKGROUP_SIZE - 1u - lane) / WORKGROUP_SIZE;
        begin.spare = workgroup * length;
    }
    let plane = lane / length;
    begin.along = lane - plane * length;
    begin.element = (plane * params.channels + workgroup) * length + begin.along;
    let planes = WORKGROUP_SIZE / length;
    begin.step_along = WORKGROUP_SIZE - planes * length;
    begin.step = planes * params.channels * length + begin.step_along;
    begin.skip = (params.channels - 1u) * length;
    return begin;
}

fn cursor_next() {
    cursor.element += cursor.step;
    cursor.along += cursor.step_along;
    let length = params.inner / VECTOR_WIDTH;
    if cursor.along >= length {
        cursor.along -= length;
        cursor.element += cursor.skip;
    }
}

// case columns:
// Channels are neighbours (inner = 1). A workgroup takes CHANNELS_PER_WORKGROUP columns, each as wide as a load. Lanes
// whose numbers are equal modulo that share a column, one row after the other.
struct Cursor {
    channel: u32,
    // How many loads the invocation has in all.
    loads: u32,
    // The present one, and the distance to the next.
    element: u32,
    step: u32,
    // An element that the workgroup has in any case.
    spare: u32,
}

fn cursor_begin(workgroup: u32, lane: u32) -> Cursor {
    let columns = params.channels / VECTOR_WIDTH;
    let row = lane / CHANNELS_PER_WORKGROUP;
    let column = workgroup * CHANNELS_PER_WORKGROUP + lane % CHANNELS_PER_WORKGROUP;
    let rows = WORKGROUP_SIZE / CHANNELS_PER_WORKGROUP;
    var begin: Cursor;
    begin.channel = column * VECTOR_WIDTH;
    begin.spare = min(workgroup * CHANNELS_PER_WORKGROUP, columns - 1u);
    if column < columns && row < params.outer {
        begin.loads = (params.outer - row + rows - 1u) / rows;
    }
    begin.element = row * columns + column;
    begin.step = rows * columns;
    return begin;
}

fn cursor_next() {
    cursor.element += cursor.step;
}
