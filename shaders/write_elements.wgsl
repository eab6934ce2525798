// uses: iterate/traversal
// needs: OfColumn, Input, Output, load_input, output_of, store_output

// Computes and stores the results of every element that an invocation visits: write_elements.

// `next` is of the next channel, into whose plane a masked load may reach.
fn write_elements(begin: Cursor, of_column: array<OfColumn, COLUMNS_PER_LANE>, next: OfColumn) {
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
            write_two(from_a.place, of_a, from_b.place, of_b);
            write_two(from_c.place, of_c, from_d.place, of_d);
        }
    }
}

// Stores two vectors: of one load, or of two.
fn write_two(a: Place, of_a: Output, b: Place, of_b: Output) {
    if is_written(a) {
        store_output(a.element, of_a, of_b);
    }
    if VECTORS_PER_LOAD == 1u && is_written(b) {
        store_output(b.element, of_b, of_b);
    }
}

// case y:
// uses: data/vector, tensors/x, tensors/y, epilogue/activation, epilogue/residual, forward/scale_shift
// y = activation(bn(x) + residual).
alias OfColumn = ScaleShift;
alias Output = Vector;

// A load of every input.
struct Input {
    place: Place,
    x: Vector,
    residual: Vector,
}

fn load_input(place: Place) -> Input {
    return Input(place, load_x(place.element, place.is_second), load_residual(place.element, place.is_second));
}

fn output_of(found: Input, own: ScaleShift, next: ScaleShift) -> Vector {
    let normalized = inside_or(apply(found.x, next), apply(found.x, own), found.place);
    return activated(with_residual(normalized, found.residual));
}

fn store_output(element: u32, y: Vector, second: Vector) {
    store_y(element, y, second);
}

// case gradients:
// uses: data/vector, tensors/dx, tensors/dresidual, epilogue/pre_activation
// uses: backward/deviation, backward/input_gradient
// uses: backward/load_gradient
// dx, and dresidual.
alias Input = Gradients;

// What a column's gradients are computed with.
struct OfColumn {
    gradient: Gradient,
    pre_activation: PreActivation,
}

struct Output {
    dresidual: Vector,
    dx: Vector,
}

fn load_input(place: Place) -> Gradients {
    return load_gradient(place);
}

fn output_of(found: Gradients, own: OfColumn, next: OfColumn) -> Output {
    let dresidual = through_pre_activation(found.dy, found.x, found.residual, own.pre_activation);
    let of_x = input_gradient(dresidual, deviation_of(found.x, own.gradient.statistics), own.gradient);
    if !MASKED {
        return Output(dresidual, of_x);
    }
    let next_dresidual = through_pre_activation(found.dy, found.x, found.residual, next.pre_activation);
    let deviation = deviation_of(found.x, next.gradient.statistics);
    let next_dx = input_gradient(next_dresidual, deviation, next.gradient);
    return Output(inside_or(next_dresidual, dresidual, found.place), inside_or(next_dx, of_x, found.place));
}

fn store_output(element: u32, output: Output, second: Output) {
    store_dresidual(element, output.dresidual, second.dresidual);
    store_dx(element, output.dx, second.dx);
}
