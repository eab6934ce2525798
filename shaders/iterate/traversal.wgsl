// uses: data/params, data/vector
// needs: Cursor, present_place, advance

// The loads of an invocation, one after the other: Cursor, cursor_begin, next_place, next_places.

// Where a vector is: the number of its load, and which of the load's vectors it is, if a load has two. And whether the
// invocation has it at all. If not, it is another load of the same workgroup, which does no harm to read. So kernels make
// several loads before they use the first, without a branch.
struct Place {
    element: u32,
    is_there: bool,
    // For masked loads: the first element of their plane.
    plane: u32,
    is_second: bool,
}

// The elements of a load.
const LOAD_WIDTH: u32 = VECTORS_PER_LOAD * VECTOR_WIDTH;

// Up to four places: VECTORS_AT_ONCE of them. With two vectors a load, b and d are the second ones of a's and c's loads.
struct Places {
    a: Place,
    b: Place,
    c: Place,
    d: Place,
}

// The place of the next load, which is then behind the cursor.
fn next_place(cursor: ptr<function, Cursor>) -> Place {
    let place = present_place(*cursor);
    (*cursor).loads -= select(0u, 1u, (*cursor).loads > 0u);
    advance(cursor);
    return place;
}

// The place of the vector behind one that begins a load: in the same load, or in the next.
fn place_behind(first: Place, cursor: ptr<function, Cursor>) -> Place {
    if VECTORS_PER_LOAD == 2u {
        return Place(first.element, first.is_there, first.plane, true);
    }
    return next_place(cursor);
}

fn next_places(cursor: ptr<function, Cursor>) -> Places {
    var places: Places;
    places.a = next_place(cursor);
    if VECTORS_AT_ONCE == 4u {
        places.b = place_behind(places.a, cursor);
        places.c = next_place(cursor);
        places.d = place_behind(places.c, cursor);
    }
    return places;
}

// case planes:
// includes: iterate/whole_loads, iterate/in_planes
// Planes of whole loads.
struct Cursor {
    channel: u32,
    split: u32,
    // How many loads are left.
    loads: u32,
    // The next one, and its number in its plane.
    element: u32,
    along: u32,
    // The distance to the one after, in all and along the plane, and what is added at a plane's end.
    step: u32,
    step_along: u32,
    skip: u32,
    // A load for a lane that has none.
    spare: u32,
}

// The loads of a plane.
fn loads_of_plane() -> u32 {
    return params.inner / LOAD_WIDTH;
}

fn enter_plane(cursor: ptr<function, Cursor>, plane: u32, planes: u32) {
    let length = loads_of_plane();
    (*cursor).element = (plane * params.channels + (*cursor).channel) * length + (*cursor).along;
    (*cursor).spare = (*cursor).element;
    (*cursor).step = planes * params.channels * length + (*cursor).step_along;
    (*cursor).skip = (params.channels - 1u) * length;
}

fn advance(cursor: ptr<function, Cursor>) {
    (*cursor).element += (*cursor).step;
    (*cursor).along += (*cursor).step_along;
    let length = loads_of_plane();
    if (*cursor).along >= length {
        (*cursor).along -= length;
        (*cursor).element += (*cursor).skip;
    }
}

// case planes_masked:
// uses: data/per_channel
// includes: iterate/in_planes
// As planes, with loads of four elements although planes are not a multiple of four long. A load at the end of a plane
// may reach into a neighbouring plane, which belongs to another channel: such elements are masked. Each plane counts as
// many loads as a plane can touch, of which the last may be empty.
const MASKED: bool = true;

struct Cursor {
    channel: u32,
    split: u32,
    // How many loads are left.
    loads: u32,
    // The first element of the present plane, and the number of the next load in it.
    plane: u32,
    along: u32,
    // The distance to the load after, in planes' elements and along the plane.
    step: u32,
    step_along: u32,
    // A load for a lane that has none.
    spare: u32,
}

// The most loads that a plane touches: it begins with any of the four elements of the first.
fn loads_of_plane() -> u32 {
    return (params.inner + 2u * VECTOR_WIDTH - 2u) / VECTOR_WIDTH;
}

fn enter_plane(cursor: ptr<function, Cursor>, plane: u32, planes: u32) {
    (*cursor).plane = (plane * params.channels + (*cursor).channel) * params.inner;
    (*cursor).spare = (*cursor).plane / VECTOR_WIDTH;
    (*cursor).step = planes * params.channels * params.inner;
}

fn present_place(cursor: Cursor) -> Place {
    let element = cursor.plane / VECTOR_WIDTH + cursor.along;
    let is_there = cursor.loads > 0u && element * VECTOR_WIDTH < cursor.plane + params.inner;
    return Place(select(cursor.spare, element, is_there), is_there, cursor.plane, false);
}

fn advance(cursor: ptr<function, Cursor>) {
    (*cursor).plane += (*cursor).step;
    (*cursor).along += (*cursor).step_along;
    let length = loads_of_plane();
    if (*cursor).along >= length {
        (*cursor).along -= length;
        (*cursor).plane += params.channels * params.inner;
    }
}

// The channel of the plane behind one of this channel.
fn next_channel(channel: u32) -> u32 {
    return select(channel + 1u, 0u, channel + 1u == params.channels);
}

// The numbers of a load's elements in the plane: those before it are beyond 2^31.
fn numbers_in_plane(place: Place) -> vec4<u32> {
    return vec4<u32>(place.element * VECTOR_WIDTH - place.plane) + vec4<u32>(0u, 1u, 2u, 3u);
}

fn first_inside(value: Vector, place: Place) -> PerChannel {
    return select(value.w, value.x, place.element * VECTOR_WIDTH >= place.plane);
}

// How many elements of a load are the channel's.
fn values_inside(place: Place) -> u32 {
    let first = place.element * VECTOR_WIDTH;
    let end = min(place.plane + params.inner, first + VECTOR_WIDTH);
    return select(0u, end - max(place.plane, first), place.is_there);
}

fn inside_or_zero(value: Vector, place: Place) -> Vector {
    let end = select(0u, params.inner, place.is_there);
    return select(Vector(0.0), value, numbers_in_plane(place) < vec4<u32>(end));
}

// A load with its elements behind the plane replaced by other ones: they belong to the next channel.
fn inside_or(other: Vector, value: Vector, place: Place) -> Vector {
    return select(other, value, numbers_in_plane(place) < vec4<u32>(params.inner));
}

// Whether the lane writes the load: if its first element is the channel's, so that each load is written by one lane.
fn is_written(place: Place) -> bool {
    return place.is_there && place.element * VECTOR_WIDTH >= place.plane;
}

// case columns:
// includes: iterate/whole_loads
// needs: COLUMNS_PER_LANE
// Channels are neighbours (inner = 1): x[o, c] is element o * channels + c. The rows are divided into periods: a whole
// number of rows that is also a whole number of loads. A workgroup takes a chunk of periods: a block. An invocation
// takes the same columns of each period, so that it keeps to its channels: COLUMNS_PER_LANE of them, or four times as
// many. Neighbouring invocations read neighbouring elements, and a workgroup so many in a row that a processor which
// fetches ahead along a line of memory does. With more than one column a lane, the last period is whole. Several
// workgroups (tiles) share a block.
struct Cursor {
    // The invocation's first column, among those of all blocks: partial results lie in this order.
    first_column: u32,
    // How many columns it has.
    columns: u32,
    // How many loads of each column are left, the next one, and the distance to the one after.
    loads: u32,
    element: u32,
    step: u32,
    // A load for a lane that has none.
    spare: u32,
}

fn cursor_begin(workgroup: u32, lane: u32, splits: Splits) -> Cursor {
    let block = workgroup / splits.tiles;
    let first_column = (workgroup - block * splits.tiles) * COLUMNS_PER_LANE * WORKGROUP_SIZE + lane;
    let begin_of_block = block * splits.chunk * splits.period;
    let loads = params.outer * params.channels / VECTOR_WIDTH;
    let end = min(begin_of_block + splits.chunk * splits.period, loads);
    var cursor: Cursor;
    if first_column < splits.period && begin_of_block < end {
        // A column of a short last period may have no load. It has a result all the same, of no values.
        cursor.first_column = block * splits.period + first_column;
        let columns = (splits.period - first_column + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
        cursor.columns = min(columns, COLUMNS_PER_LANE);
        let begin = begin_of_block + first_column;
        if begin < end {
            cursor.loads = (end - begin + splits.period - 1u) / splits.period;
            cursor.element = begin;
            cursor.spare = begin;
            cursor.step = splits.period;
        }
    }
    return cursor;
}

fn advance(cursor: ptr<function, Cursor>) {
    (*cursor).element += (*cursor).step;
}

// The number of workgroups that visit the tensor.
fn workgroups_of(splits: Splits) -> u32 {
    let chunk = splits.chunk * splits.period;
    return (params.outer * params.channels / VECTOR_WIDTH + chunk - 1u) / chunk * splits.tiles;
}

// The load of the k-th column beside that of the first, if the invocation has so many.
fn column(cursor: Cursor, place: Place, k: u32) -> Place {
    let is_there = place.is_there && k < cursor.columns;
    return Place(select(cursor.spare, place.element + k * WORKGROUP_SIZE, is_there), is_there, 0u, false);
}

fn channel_of(cursor: Cursor, k: u32) -> u32 {
    return (cursor.first_column + k * WORKGROUP_SIZE) * VECTOR_WIDTH % params.channels;
}

// The columns of a channel are a multiple of channels apart.
fn split_of(cursor: Cursor, k: u32) -> u32 {
    let split = (cursor.first_column + k * WORKGROUP_SIZE) * VECTOR_WIDTH / params.channels;
    return select(params.reduction.count, split, k < cursor.columns);
}

// case column_blocks:
// includes: iterate/whole_loads, iterate/one_column
// Columns on GPUs, where a workgroup merges results: the lanes of a workgroup lie in rows of LANES_ACROSS, and the lanes of one column
// have the same channels, so that they merge before a partial result is written. Each row of loads is as many rows of x
// as make whole loads. All rows of a workgroup together are a period. Several workgroups (tiles) lie beside each other
// along a row, and a workgroup takes a chunk of periods: a block. Lanes behind the last row are idle.
struct Cursor {
    // The first channel of the column, and its split; without a column, a split that is none.
    channel: u32,
    split: u32,
    // How many loads are left, the next one, and the distance to the one after.
    loads: u32,
    element: u32,
    step: u32,
    // A load for a lane that has none.
    spare: u32,
}

fn cursor_begin(workgroup: u32, lane: u32, splits: Splits) -> Cursor {
    let rows = WORKGROUP_SIZE / LANES_ACROSS;
    let row_loads = splits.period / rows;
    let block = workgroup / splits.tiles;
    let row = lane / LANES_ACROSS;
    let first_column = (workgroup - block * splits.tiles) * LANES_ACROSS;
    let in_row = first_column + lane - row * LANES_ACROSS;
    let begin_of_block = block * splits.chunk * splits.period;
    let begin = begin_of_block + row * row_loads + in_row;
    let loads = params.outer * params.channels / VECTOR_WIDTH;
    let end = min(begin_of_block + splits.chunk * splits.period, loads);
    var cursor: Cursor;
    cursor.split = splits.count;
    cursor.spare = min(first_column, row_loads - 1u);
    if row < rows && in_row < row_loads {
        let first = (block * row_loads + in_row) * VECTOR_WIDTH;
        cursor.split = first / params.channels;
        cursor.channel = first - cursor.split * params.channels;
        if begin < end {
            cursor.loads = (end - begin + splits.period - 1u) / splits.period;
            cursor.element = begin;
            cursor.spare = begin;
            cursor.step = splits.period;
        }
    }
    return cursor;
}

fn advance(cursor: ptr<function, Cursor>) {
    (*cursor).element += (*cursor).step;
}

// The number of workgroups that visit the tensor.
fn workgroups_of(splits: Splits) -> u32 {
    let chunk = splits.chunk * splits.period;
    return (params.outer * params.channels / VECTOR_WIDTH + chunk - 1u) / chunk * splits.tiles;
}
