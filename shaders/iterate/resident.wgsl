// uses: iterate/tile
// needs: LOAD, STORE, load, add, store

// The loop over the loads that an invocation keeps in registers, so that memory is read once. Registers cannot
// be indexed at run time, and with a loop over the loads some compilers would keep the values in memory. Hence
// `for_each_load` has one call after the other, of which the first TILE_LOADS do something. There are several lengths
// of it, since calls that do nothing take time to compile, too.

// The present load.
var<private> cursor: Cursor;

fn process_one(stage: u32, k: u32) {
    if k < TILE_LOADS {
        let is_valid = k < cursor.loads;
        let element = select(cursor.spare, cursor.element, is_valid);
        if stage == LOAD {
            // Every lane makes every load, and the sums come later, without a branch either: otherwise compilers wait
            // for each load before the next. A lane without a k-th load takes the spare one, which is its own
            // workgroup's: in place, another workgroup may be writing to any other. (A surplus workgroup drops what it
            // loads.)
            load(k, element);
        } else if stage != STORE {
            add(stage, k, element, is_valid);
        } else if is_valid {
            store(k, element);
        }
        cursor_next();
    }
}

// case up_to_4:
// Up to 4 loads.
fn for_each_load(stage: u32, first: Cursor) {
    cursor = first;
    process_one(stage, 0u);
    process_one(stage, 1u);
    process_one(stage, 2u);
    process_one(stage, 3u);
}

// case up_to_16:
// Up to 16 loads.
fn for_each_load(stage: u32, first: Cursor) {
    cursor = first;
    process_one(stage, 0u);
    process_one(stage, 1u);
    process_one(stage, 2u);
    process_one(stage, 3u);
    process_one(stage, 4u);
    process_one(stage, 5u);
    process_one(stage, 6u);
    process_one(stage, 7u);
    process_one(stage, 8u);
    process_one(stage, 9u);
    process_one(stage, 10u);
    process_one(stage, 11u);
    process_one(stage, 12u);
    process_one(stage, 13u);
    process_one(stage, 14u);
    process_one(stage, 15u);
}

// case up_to_64:
// Up to 64 loads.
fn for_each_load(stage: u32, first: Cursor) {
    cursor = first;
    for_sixteen_loads(stage, 0u);
    for_sixteen_loads(stage, 16u);
    for_sixteen_loads(stage, 32u);
    for_sixteen_loads(stage, 48u);
}

fn for_sixteen_loads(stage: u32, k: u32) {
    process_one(stage, k);
    process_one(stage, k + 1u);
    process_one(stage, k + 2u);
    process_one(stage, k + 3u);
    process_one(stage, k + 4u);
    process_one(stage, k + 5u);
    process_one(stage, k + 6u);
    process_one(stage, k + 7u);
    process_one(stage, k + 8u);
    process_one(stage, k + 9u);
    process_one(stage, k + 10u);
    process_one(stage, k + 11u);
    process_one(stage, k + 12u);
    process_one(stage, k + 13u);
    process_one(stage, k + 14u);
    process_one(stage, k + 15u);
}
