// uses: data/params, data/vector

// The elements that an invocation visits: Traversal, traversal_begin, has_next, next_range, next_store_range.

// case planes:
// includes: iterate/range, iterate/one_column
// Channels lie in planes: x[o, c, i] is element (o * channels + c) * inner + i. A workgroup takes one split of one
// channel: some of its planes, and a part of each plane. LANES_PER_PLANE neighbouring lanes go along a plane, so that
// they read neighbouring elements. The workgroup's other lanes are in the next planes meanwhile.
struct Traversal {
    channel: u32,
    split: u32,
    // The next plane, and the part of each plane.
    outer: u32,
    outer_end: u32,
    inner_begin: u32,
    inner_end: u32,
}

fn traversal_begin(workgroup: u32, lane: u32, splits: Splits) -> Traversal {
    var traversal: Traversal;
    traversal.split = workgroup / params.group_channels;
    traversal.channel = params.first_channel + workgroup - traversal.split * params.group_channels;
    if traversal.split < splits.count {
        let outer_split = traversal.split / splits.of_inner;
        let inner_split = traversal.split - outer_split * splits.of_inner;
        traversal.outer = outer_split * splits.outer_chunk + lane / LANES_PER_PLANE;
        traversal.outer_end = min((outer_split + 1u) * splits.outer_chunk, params.outer);
        traversal.inner_begin = inner_split * splits.inner_chunk / VECTOR_WIDTH + lane % LANES_PER_PLANE;
        traversal.inner_end = min((inner_split + 1u) * splits.inner_chunk, params.inner) / VECTOR_WIDTH;
    }
    return traversal;
}

// The number of workgroups that visit a group of channels.
fn workgroups_of(splits: Splits) -> u32 {
    return splits.count * params.group_channels;
}

fn has_next(traversal: Traversal) -> bool {
    return traversal.outer < traversal.outer_end;
}

// The lane's part of the next plane.
fn next_range(traversal: ptr<function, Traversal>) -> Range {
    let plane = ((*traversal).outer * params.channels + (*traversal).channel) * (params.inner / VECTOR_WIDTH);
    (*traversal).outer += WORKGROUP_SIZE / LANES_PER_PLANE;
    return Range(plane + (*traversal).inner_begin, plane + (*traversal).inner_end, LANES_PER_PLANE);
}

// What the lane writes is what it reads.
fn next_store_range(traversal: ptr<function, Traversal>) -> Range {
    return next_range(traversal);
}

// case planes_masked:
// uses: data/per_channel
// includes: iterate/one_column
// As planes, with loads of four elements although planes are not a multiple of four long. A load at the end of a plane
// may reach into a neighbouring plane, which belongs to another channel: such elements are masked.
const MASKED: bool = true;

struct Traversal {
    channel: u32,
    split: u32,
    lane: u32,
    // The next plane, and the part of each plane.
    outer: u32,
    outer_end: u32,
    inner_begin: u32,
    inner_end: u32,
}

// The loads begin, begin + step, and so on, before end. Of their elements, those from inside_begin to inside_end count.
struct Range {
    begin: u32,
    end: u32,
    step: u32,
    inside_begin: u32,
    inside_end: u32,
}

fn traversal_begin(workgroup: u32, lane: u32, splits: Splits) -> Traversal {
    var traversal: Traversal;
    traversal.split = workgroup / params.group_channels;
    traversal.channel = params.first_channel + workgroup - traversal.split * params.group_channels;
    traversal.lane = lane % LANES_PER_PLANE;
    if traversal.split < splits.count {
        let outer_split = traversal.split / splits.of_inner;
        let inner_split = traversal.split - outer_split * splits.of_inner;
        traversal.outer = outer_split * splits.outer_chunk + lane / LANES_PER_PLANE;
        traversal.outer_end = min((outer_split + 1u) * splits.outer_chunk, params.outer);
        traversal.inner_begin = inner_split * splits.inner_chunk;
        traversal.inner_end = min(traversal.inner_begin + splits.inner_chunk, params.inner);
    }
    return traversal;
}

// The number of workgroups that visit a group of channels.
fn workgroups_of(splits: Splits) -> u32 {
    return splits.count * params.group_channels;
}

fn has_next(traversal: Traversal) -> bool {
    return traversal.outer < traversal.outer_end;
}

// All loads that have an element of the next plane's part.
fn next_range(traversal: ptr<function, Traversal>) -> Range {
    let plane = ((*traversal).outer * params.channels + (*traversal).channel) * params.inner;
    (*traversal).outer += WORKGROUP_SIZE / LANES_PER_PLANE;
    let begin = plane + (*traversal).inner_begin;
    let end = plane + (*traversal).inner_end;
    let first_load = begin / VECTOR_WIDTH + (*traversal).lane;
    return Range(first_load, (end + VECTOR_WIDTH - 1u) / VECTOR_WIDTH, LANES_PER_PLANE, begin, end);
}

// The loads whose first element is in the next plane's part, so that each load is written by one lane. Elements behind
// the plane belong to the next channel.
fn next_store_range(traversal: ptr<function, Traversal>) -> Range {
    let plane_end = ((*traversal).outer * params.channels + (*traversal).channel + 1u) * params.inner;
    var range = next_range(traversal);
    range.begin += select(0u, 1u, range.inside_begin % VECTOR_WIDTH != 0u);
    range.inside_end = plane_end;
    return range;
}

// The channel of the plane behind one of this channel.
fn next_channel(channel: u32) -> u32 {
    return select(channel + 1u, 0u, channel + 1u == params.channels);
}

fn block_end(range: Range, element: u32, loads: u32) -> u32 {
    return element + min(range.end - element, range.step * loads);
}

fn first_inside(value: Vector, range: Range, element: u32) -> PerChannel {
    return select(value.w, value.x, element * VECTOR_WIDTH >= range.inside_begin);
}

// How many elements of a load are inside.
fn values_inside(range: Range, element: u32) -> u32 {
    let first = element * VECTOR_WIDTH;
    return min(range.inside_end, first + VECTOR_WIDTH) - max(range.inside_begin, first);
}

fn select_inside_or_zero(value: Vector, range: Range, element: u32) -> Vector {
    return select_inside(Vector(0.0), value, range, element);
}

// A load with its elements outside of the range replaced by other ones.
fn select_inside(other: Vector, value: Vector, range: Range, element: u32) -> Vector {
    let numbers = vec4<u32>(element * VECTOR_WIDTH) + vec4<u32>(0u, 1u, 2u, 3u);
    let inside = (numbers >= vec4<u32>(range.inside_begin)) & (numbers < vec4<u32>(range.inside_end));
    return select(other, value, inside);
}

// case columns:
// includes: iterate/range
// needs: COLUMNS_PER_LANE
// Channels are neighbours (inner = 1): x[o, c] is element o * channels + c. The rows are divided into periods of
// inner_chunk loads, a whole number of rows that is also a whole number of loads, and a workgroup takes outer_chunk
// periods: a block. An invocation takes the same columns of each period, so that it keeps to its channels:
// COLUMNS_PER_LANE of them, or four times as many. Neighbouring invocations read neighbouring elements, and a
// workgroup so many in a row that a processor which fetches ahead along a line of memory does. With more than one
// column a lane, the last period is whole. of_inner workgroups share a block.
struct Traversal {
    // The invocation's first column, among those of all blocks: partial results lie in this order.
    first_column: u32,
    // How many columns it has.
    columns: u32,
    range: Range,
}

fn traversal_begin(workgroup: u32, lane: u32, splits: Splits) -> Traversal {
    let block = workgroup / splits.of_inner;
    let first_column = (workgroup - block * splits.of_inner) * COLUMNS_PER_LANE * WORKGROUP_SIZE + lane;
    let begin = block * splits.outer_chunk * splits.inner_chunk;
    let loads = params.outer * params.channels / VECTOR_WIDTH;
    let end = min(begin + splits.outer_chunk * splits.inner_chunk, loads);
    var traversal: Traversal;
    if first_column < splits.inner_chunk && begin < end {
        traversal.first_column = block * splits.inner_chunk + first_column;
        let columns = (splits.inner_chunk - first_column + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
        traversal.columns = min(columns, COLUMNS_PER_LANE);
        traversal.range = Range(begin + first_column, end, splits.inner_chunk);
    }
    return traversal;
}

// The number of workgroups that visit the tensor.
fn workgroups_of(splits: Splits) -> u32 {
    let chunk = splits.outer_chunk * splits.inner_chunk;
    return (params.outer * params.channels / VECTOR_WIDTH + chunk - 1u) / chunk * splits.of_inner;
}

// Whether the invocation has a k-th column, and the element of it beside that of the first. Without one, that is some
// other element: reading it does no harm.
fn has_column(traversal: Traversal, k: u32) -> bool {
    return k < traversal.columns;
}

fn column(element: u32, k: u32) -> u32 {
    return element + k * WORKGROUP_SIZE;
}

fn channel_of(traversal: Traversal, k: u32) -> u32 {
    return column(traversal.first_column, k) * VECTOR_WIDTH % params.channels;
}

// The columns of a channel are a multiple of channels apart.
fn split_of(traversal: Traversal, k: u32) -> u32 {
    let split = column(traversal.first_column, k) * VECTOR_WIDTH / params.channels;
    return select(params.reduction.count, split, has_column(traversal, k));
}

fn has_next(traversal: Traversal) -> bool {
    return traversal.range.begin < traversal.range.end;
}

// One range is all.
fn next_range(traversal: ptr<function, Traversal>) -> Range {
    let range = (*traversal).range;
    (*traversal).range.end = 0u;
    return range;
}

// What the invocation writes is what it reads.
fn next_store_range(traversal: ptr<function, Traversal>) -> Range {
    return next_range(traversal);
}

// case column_blocks:
// includes: iterate/range, iterate/one_column
// Columns for reductions on GPUs: the lanes of a workgroup lie in rows of LANES_ACROSS, and the lanes of one column
// have the same channels, so that they merge before a partial result is written. Each row of loads is as many rows of x
// as make whole loads. All rows of a workgroup together are a period of inner_chunk loads. of_inner workgroups lie
// beside each other along a row, and a workgroup takes outer_chunk periods: a block. Lanes behind the last row are
// idle.
struct Traversal {
    // The first channel of the column, and its split; without a column, a split that is none.
    channel: u32,
    split: u32,
    range: Range,
}

fn traversal_begin(workgroup: u32, lane: u32, splits: Splits) -> Traversal {
    let rows = WORKGROUP_SIZE / LANES_ACROSS;
    let row_loads = splits.inner_chunk / rows;
    let block = workgroup / splits.of_inner;
    let row = lane / LANES_ACROSS;
    let column = (workgroup - block * splits.of_inner) * LANES_ACROSS + lane - row * LANES_ACROSS;
    let begin = block * splits.outer_chunk * splits.inner_chunk;
    let loads = params.outer * params.channels / VECTOR_WIDTH;
    let end = min(begin + splits.outer_chunk * splits.inner_chunk, loads);
    var traversal: Traversal;
    traversal.split = splits.count;
    if row < rows && column < row_loads && begin < end {
        let first = (block * row_loads + column) * VECTOR_WIDTH;
        traversal.split = first / params.channels;
        traversal.channel = first - traversal.split * params.channels;
        traversal.range = Range(begin + row * row_loads + column, end, splits.inner_chunk);
    }
    return traversal;
}

fn has_next(traversal: Traversal) -> bool {
    return traversal.range.begin < traversal.range.end;
}

// One range is all.
fn next_range(traversal: ptr<function, Traversal>) -> Range {
    let range = (*traversal).range;
    (*traversal).range.end = 0u;
    return range;
}

// What the invocation writes is what it reads.
fn next_store_range(traversal: ptr<function, Traversal>) -> Range {
    return next_range(traversal);
}
