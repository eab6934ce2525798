// uses: data/params, data/storage, data/vector

// The gradient with respect to the output: load_dy.

// case read:
// A tensor of its own.
@group(0) @binding(10) var<storage, read> dy: array<Stored>;

fn load_dy(element: u32, is_second: bool) -> Vector {
    let at = params.dy_offset + element;
    return loaded(dy[word_of(at)], at, is_second);
}

// case in_place:
// uses: tensors/dx
// dx overwrites dy: one binding for both, since a dispatch cannot read and write a buffer through two.
fn load_dy(element: u32, is_second: bool) -> Vector {
    let at = params.dx_offset + element;
    return loaded(dx_tensor[word_of(at)], at, is_second);
}

// case in_place_atomic:
// uses: tensors/dx
// The same if two elements share a word: another invocation may write the other one meanwhile.
fn load_dy(element: u32, is_second: bool) -> Vector {
    let at = params.dx_offset + element;
    return loaded(atomicLoad(&dx_tensor[word_of(at)]), at, is_second);
}
