// uses: data/vector

// What is added to the normalised input: load_z, with_residual.

// case add_z:
// uses: data/params, data/storage
// A tensor of the shape of x.
@group(0) @binding(15) var<storage, read> z: array<Stored>;

fn load_z(element: u32, is_second: bool) -> Vector {
    let at = params.z_offset + element;
    return loaded(z[word_of(at)], at, is_second);
}

fn with_residual(value: Vector, z: Vector) -> Vector {
    return value + z;
}

// case none:
// Nothing is added to the normalised input.
fn load_z(element: u32, is_second: bool) -> Vector {
    return Vector(0.0);
}

fn with_residual(value: Vector, z: Vector) -> Vector {
    return value;
}
