// Which loads an invocation holds when channels are neighbours (inner = 1): a workgroup takes
// CHANNELS_PER_WORKGROUP columns, each as wide as a load. Its lanes with equal numbers modulo that share a column,
// one row after the other.
struct Place {
    channel: u32,
    // How many loads the invocation has in all.
    loads: u32,
    // The present one, and how far it is to the next.
    element: u32,
    step: u32,
}

fn place_begin(workgroup: u32, lane: u32) -> Place {
    let columns = params.channels / WIDTH;
    let row = lane / CHANNELS_PER_WORKGROUP;
    let column = workgroup * CHANNELS_PER_WORKGROUP + lane % CHANNELS_PER_WORKGROUP;
    let rows = WORKGROUP_SIZE / CHANNELS_PER_WORKGROUP;
    var begin: Place;
    begin.channel = column * WIDTH;
    if column < columns && row < params.outer {
        begin.loads = (params.outer - row + rows - 1u) / rows;
    }
    begin.element = row * columns + column;
    begin.step = rows * columns;
    return begin;
}

fn place_next() {
    place.element += place.step;
}
