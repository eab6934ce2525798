// uses: data/vector, iterate/traversal, epilogue/residual
// needs: LOAD, STORE, load, add, store

// The loop over the loads that an invocation keeps in registers, so that memory is read once. Registers cannot
// be indexed at run time, and with a loop over the loads some compilers would keep the values in memory. Hence
// `for_each_load` has one call after the other, of which the first TILE_LOADS do something. There are several lengths
// of it, since calls that do nothing take time to compile, too.

fn process_one(stage: u32, k: u32, cursor: ptr<function, Cursor>, z: Vector) {
    if k < TILE_LOADS {
        let place = next_place(cursor);
        if stage == LOAD {
            // Every lane makes every load, and the sums come later, without a branch either: otherwise compilers wait
            // for each load before the next.
            load(k, place.element);
        } else if stage != STORE {
            add(stage, k, place.is_there);
        } else if place.is_there {
            store(k, place.element, z);
        }
    }
}

fn process_four(stage: u32, k: u32, cursor: ptr<function, Cursor>) {
    var z: array<Vector, 4>;
    if stage == STORE && k < TILE_LOADS {
        // Four loads come before the first use.
        var ahead = *cursor;
        z[0] = load_z(next_place(&ahead).element);
        z[1] = load_z(next_place(&ahead).element);
        z[2] = load_z(next_place(&ahead).element);
        z[3] = load_z(next_place(&ahead).element);
    }
    process_one(stage, k, cursor, z[0]);
    process_one(stage, k + 1u, cursor, z[1]);
    process_one(stage, k + 2u, cursor, z[2]);
    process_one(stage, k + 3u, cursor, z[3]);
}

// case up_to_4:
// Up to 4 loads.
fn for_each_load(stage: u32, begin: Cursor) {
    var cursor = begin;
    process_four(stage, 0u, &cursor);
}

// case up_to_16:
// Up to 16 loads.
fn for_each_load(stage: u32, begin: Cursor) {
    var cursor = begin;
    process_four(stage, 0u, &cursor);
    process_four(stage, 4u, &cursor);
    process_four(stage, 8u, &cursor);
    process_four(stage, 12u, &cursor);
}

// case up_to_64:
// Up to 64 loads.
fn for_each_load(stage: u32, begin: Cursor) {
    var cursor = begin;
    process_sixteen(stage, 0u, &cursor);
    process_sixteen(stage, 16u, &cursor);
    process_sixteen(stage, 32u, &cursor);
    process_sixteen(stage, 48u, &cursor);
}

fn process_sixteen(stage: u32, k: u32, cursor: ptr<function, Cursor>) {
    process_four(stage, k, cursor);
    process_four(stage, k + 4u, cursor);
    process_four(stage, k + 8u, cursor);
    process_four(stage, k + 12u, cursor);
}
