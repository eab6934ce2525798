// Which elements an invocation visits when channels are neighbours (inner = 1): x[o, c] is element
// o * channels + c. The rows are divided into periods of inner_chunk loads, a whole number of rows that is
// also a whole number of loads, and a workgroup takes outer_chunk periods: a block. Of each period an
// invocation takes one load, always at the same place, so that it keeps to its channel, or to its four.
// Neighbouring invocations read neighbouring elements.
//
// A workgroup has PARTS times as many places as lanes, and visits them part after part; of_inner workgroups
// share a block.
struct Walk {
    channel: u32,
    split: u32,
    run: Run,
}

// The block and the tile of it that a workgroup takes, as elements in Values: of every period from `begin` to
// `end`, which are `step` long, the places from `first` to `last`.
struct Tile {
    block: u32,
    begin: u32,
    end: u32,
    step: u32,
    first: u32,
    last: u32,
}

fn tile_of(workgroup: u32, splits: Splits) -> Tile {
    let block = workgroup / splits.of_inner;
    let first = (workgroup - block * splits.of_inner) * PARTS * WORKGROUP_SIZE;
    let begin = block * splits.outer_chunk * splits.inner_chunk;
    let loads = params.outer * params.channels / WIDTH;
    let end = min(begin + splits.outer_chunk * splits.inner_chunk, loads);
    let last = min(first + PARTS * WORKGROUP_SIZE, splits.inner_chunk);
    return Tile(block, begin, end, splits.inner_chunk, first, last);
}

fn walk_begin(workgroup: u32, lane: u32, part: u32, splits: Splits) -> Walk {
    let tile = tile_of(workgroup, splits);
    let place = tile.first + part * WORKGROUP_SIZE + lane;
    var walk: Walk;
    walk.split = splits.count;
    if place < tile.last && tile.begin < tile.end {
        // Partial results lie in the order of places: those of a channel are a multiple of channels apart.
        let slot = (tile.block * splits.inner_chunk + place) * WIDTH;
        walk.split = slot / params.channels;
        walk.channel = slot - walk.split * params.channels;
        walk.run = Run(tile.begin + place, tile.end, tile.step);
    }
    return walk;
}

// Reads the tile once in the order of memory, one load of each cache line. The processors that software
// drivers run on fetch ahead along a line of memory, but not down a column, where every load is of another
// page: without this, each of them waits for memory.
fn touch_tile(workgroup: u32, lane: u32, splits: Splits) {
    if PARTS == 1u {
        return;
    }
    let tile = tile_of(workgroup, splits);
    var touched = 0u;
    for (var row = tile.begin; row < tile.end; row += tile.step) {
        for (var place = tile.first + lane * LOADS_PER_LINE; place < tile.last; place += WORKGROUP_SIZE * LOADS_PER_LINE) {
            if row + place < tile.end {
                touched |= touch(row + place);
            }
        }
    }
    // Still zero; but a compiler that does not know it cannot leave out the reads.
    params.zero &= touched;
}

// Cache lines have 64 bytes.
const LOADS_PER_LINE: u32 = 16u / WIDTH;

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
