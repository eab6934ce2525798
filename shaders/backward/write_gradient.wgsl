// uses: data/vector, iterate/traversal, tensors/dx, tensors/dz, epilogue/pre_activation
// uses: backward/deviation, backward/input_gradient, backward/load_gradient

// Computes and stores dx and dz of every element that an invocation visits: write_gradient.

// What a column's gradients are computed with.
struct OfColumn {
    gradient: Gradient,
    pre_activation: PreActivation,
}

fn write_gradient(begin: Cursor, of_column: array<OfColumn, COLUMNS_PER_LANE>, next: OfColumn) {
    var cursor = begin;
    var own = of_column;
    while cursor.loads > 0u {
        // All loads come before the first use.
        let at = next_places(&cursor);
        for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
            let from_a = load_gradient(column(cursor, at.a, k));
            let from_b = load_gradient(column(cursor, at.b, k));
            let from_c = load_gradient(column(cursor, at.c, k));
            let from_d = load_gradient(column(cursor, at.d, k));
            // All are used before a branch: otherwise compilers move each load behind it.
            let of_a = gradients_of(from_a, own[k], next);
            let of_b = gradients_of(from_b, own[k], next);
            let of_c = gradients_of(from_c, own[k], next);
            let of_d = gradients_of(from_d, own[k], next);
            write_load(from_a.place, of_a);
            write_load(from_b.place, of_b);
            write_load(from_c.place, of_c);
            write_load(from_d.place, of_d);
        }
    }
}

// What is stored.
struct Outputs {
    dz: Vector,
    dx: Vector,
}

fn gradients_of(found: Gradients, own: OfColumn, next: OfColumn) -> Outputs {
    let dz = through_pre_activation(found.dy, found.x, found.z, own.pre_activation);
    let of_x = input_gradient(dz, deviation_of(found.x, own.gradient.statistics), own.gradient);
    if !MASKED {
        return Outputs(dz, of_x);
    }
    let next_dz = through_pre_activation(found.dy, found.x, found.z, next.pre_activation);
    let deviation = deviation_of(found.x, next.gradient.statistics);
    let next_dx = input_gradient(next_dz, deviation, next.gradient);
    return Outputs(inside_or(next_dz, dz, found.place), inside_or(next_dx, of_x, found.place));
}

fn write_load(place: Place, outputs: Outputs) {
    if is_written(place) {
        store_dz(place.element, outputs.dz);
        store_dx(place.element, outputs.dx);
    }
}
