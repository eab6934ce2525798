// uses: data/vector

// The input: load_x.

// case read:
// uses: data/params, data/storage
// A tensor of its own.
@group(0) @binding(1) var<storage, read> x: array<Stored>;

fn load_x(element: u32, is_second: bool) -> Vector {
    let at = params.x_offset + element;
    return loaded(x[word_of(at)], at, is_second);
}

// case in_place:
// uses: data/params, data/storage, tensors/y
// y overwrites x: one binding for both, since a dispatch cannot read and write a buffer through two.
fn load_x(element: u32, is_second: bool) -> Vector {
    let at = params.y_offset + element;
    return loaded(y[word_of(at)], at, is_second);
}

// case in_place_atomic:
// uses: data/params, data/storage, tensors/y
// The same if two elements share a word: another invocation may write the other one meanwhile.
fn load_x(element: u32, is_second: bool) -> Vector {
    let at = params.y_offset + element;
    return loaded(atomicLoad(&y[word_of(at)]), at, is_second);
}

// case unused:
// x is not needed.
fn load_x(element: u32, is_second: bool) -> Vector {
    return Vector(0.0);
}
