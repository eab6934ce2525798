// uses: data/vector, iterate/traversal, epilogue/residual
// needs: LOAD, STORE, load, add, store

// The loop over the vectors that an invocation keeps in registers, so that memory is read once. Registers cannot
// be indexed at run time, and with a loop over the vectors some compilers would keep the values in memory. Hence
// `for_each_vector` has one call after the other, of which the first TILE_VECTORS do something. There are several
// lengths of it, since calls that do nothing take time to compile, too.

// The number of the vector that is stored together with the k-th: the second of its load, or itself.
fn second_of(k: u32) -> u32 {
    return k + VECTORS_PER_LOAD - 1u;
}

fn process_one(stage: u32, k: u32, place: Place, residual: Vector, second_residual: Vector) {
    if stage == LOAD {
        // Every lane makes every load, and the sums come later, without a branch either: otherwise compilers wait
        // for each load before the next.
        load(k, place);
    } else if stage != STORE {
        add(stage, k, place.is_there);
    } else if place.is_there && !place.is_second {
        store(k, place.element, residual, second_residual);
    }
}

fn process_two(stage: u32, k: u32, cursor: ptr<function, Cursor>, residual: Vector, second_residual: Vector) {
    if k < TILE_VECTORS {
        let first = next_place(cursor);
        process_one(stage, k, first, residual, second_residual);
        if k + 1u < TILE_VECTORS {
            process_one(stage, k + 1u, place_behind(first, cursor), second_residual, second_residual);
        }
    }
}

fn process_four(stage: u32, k: u32, cursor: ptr<function, Cursor>) {
    var residual: array<Vector, 4>;
    if stage == STORE && k < TILE_VECTORS {
        // Four vectors come before the first use.
        var ahead = *cursor;
        let a = next_place(&ahead);
        let b = place_behind(a, &ahead);
        let c = next_place(&ahead);
        let d = place_behind(c, &ahead);
        residual[0] = load_residual(a.element, a.is_second);
        residual[1] = load_residual(b.element, b.is_second);
        residual[2] = load_residual(c.element, c.is_second);
        residual[3] = load_residual(d.element, d.is_second);
    }
    process_two(stage, k, cursor, residual[0], residual[1]);
    process_two(stage, k + 2u, cursor, residual[2], residual[3]);
}

// case up_to_4:
// Up to 4 vectors.
fn for_each_vector(stage: u32, begin: Cursor) {
    var cursor = begin;
    process_four(stage, 0u, &cursor);
}

// case up_to_16:
// Up to 16 vectors.
fn for_each_vector(stage: u32, begin: Cursor) {
    var cursor = begin;
    process_four(stage, 0u, &cursor);
    process_four(stage, 4u, &cursor);
    process_four(stage, 8u, &cursor);
    process_four(stage, 12u, &cursor);
}

// case up_to_64:
// Up to 64 vectors.
fn for_each_vector(stage: u32, begin: Cursor) {
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
