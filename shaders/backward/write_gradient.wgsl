// uses: iterate/traversal, tensors/dx, tensors/dz, epilogue/pre_activation
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
            write_load(from_a, own[k], next);
            write_load(from_b, own[k], next);
            write_load(from_c, own[k], next);
            write_load(from_d, own[k], next);
        }
    }
}

fn write_load(found: Gradients, own: OfColumn, next: OfColumn) {
    if is_written(found.place) {
        var dy = through_pre_activation(found.dy, found.x, found.z, own.pre_activation);
        var of_x = input_gradient(dy, deviation_of(found.x, own.gradient.statistics), own.gradient);
        if MASKED {
            let next_dy = through_pre_activation(found.dy, found.x, found.z, next.pre_activation);
            let deviation = deviation_of(found.x, next.gradient.statistics);
            of_x = inside_or(input_gradient(next_dy, deviation, next.gradient), of_x, found.place);
            dy = inside_or(next_dy, dy, found.place);
        }
        store_dz(found.place.element, dy);
        store_dx(found.place.element, of_x);
    }
}
