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
            // All are used before a branch: otherwise compilers move each load behind it.
            let of_a = output_of(from_a, own[k], next);
            let of_b = output_of(from_b, own[k], next);
            let of_c = output_of(from_c, own[k], next);
            let of_d = output_of(from_d, own[k], next);
            write_load(from_a.place, of_a);
            write_load(from_b.place, of_b);
            write_load(from_c.place, of_c);
            write_load(from_d.place, of_d);
        }
    }
}

fn output_of(found: Input, own: ScaleShift, next: ScaleShift) -> Vector {
    let normalized = inside_or(apply(found.x, next), apply(found.x, own), found.place);
    return activated(with_residual(normalized, found.z));
}

fn write_load(place: Place, y: Vector) {
    if is_written(place) {
        store_y(place.element, y);
    }
}
