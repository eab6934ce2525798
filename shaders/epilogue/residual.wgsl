// uses: data/vector

// What is added to the normalised input: with_residual.

// case add_z:
// uses: data/params, data/storage
// A tensor of the shape of x.
@group(0) @binding(15) var<storage, read> z: array<Stored>;

fn load_z(element: u32) -> Vector {
    let at = params.z_offset + element;
    return loaded(z[word_of(at)], at);
}

fn with_residual(value: Vector, element: u32) -> Vector {
    return value + load_z(element);
}

// case none:
// Nothing is added to the normalised input.
fn with_residual(value: Vector, element: u32) -> Vector {
    return value;
}
