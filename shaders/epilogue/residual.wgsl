// uses: data/vector

// What is added to the normalised input: load_residual, with_residual.

// case add:
// uses: data/params, data/storage
// A tensor of the shape of x.
@group(0) @binding(15) var<storage, read> residual: array<Stored>;

fn load_residual(element: u32, is_second: bool) -> Vector {
    let at = params.residual_offset + element;
    return loaded(residual[word_of(at)], at, is_second);
}

fn with_residual(value: Vector, residual: Vector) -> Vector {
    return value + residual;
}

// case none:
// Nothing is added to the normalised input.
fn load_residual(element: u32, is_second: bool) -> Vector {
    return Vector(0.0);
}

fn with_residual(value: Vector, residual: Vector) -> Vector {
    return value;
}
