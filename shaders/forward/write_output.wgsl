// uses: data/vector, iterate/traversal, tensors/x, tensors/y, epilogue/activation, epilogue/residual
// uses: forward/scale_shift

// Computes and stores y of every element that an invocation visits: write_output.

// A load of every input.
struct Input {
    place: Place,
    x: Vector,
    z: Vector,
}

fn load_input(place: Place) -> Input {
    return Input(place, load_x(place.element), load_z(place.element));
}

fn write_output(begin: Cursor, of_column: array<ScaleShift, COLUMNS_PER_LANE>, next: ScaleShift) {
    var cursor = begin;
    var own = of_column;
    while cursor.loads > 0u {
        // All loads come before the first use.
        let at = next_places(&cursor);
        for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
            let from_a = load_input(column(cursor, at.a, k));
            let from_b = load_input(column(cursor, at.b, k));
            let from_c = load_input(column(cursor, at.c, k));
            let from_d = load_input(column(cursor, at.d, k));
            write_load(from_a, own[k], next);
            write_load(from_b, own[k], next);
            write_load(from_c, own[k], next);
            write_load(from_d, own[k], next);
        }
    }
}

fn write_load(found: Input, own: ScaleShift, next: ScaleShift) {
    if is_written(found.place) {
        let normalized = inside_or(apply(found.x, next), apply(found.x, own), found.place);
        store_y(found.place.element, activated(with_residual(normalized, found.z)));
    }
}
