// uses: data/vector

// The gradient with respect to the input: store_dx.

// case store:
// uses: data/params, data/storage
// No two invocations write to the same place.
// The name dx is a namespace to DXC (docs/naga.md).
@group(0) @binding(11) var<storage, read_write> dx_tensor: array<Stored>;

fn store_dx(element: u32, value: Vector, second: Vector) {
    dx_tensor[params.dx_offset + element] = stored(value, second);
}

// case store_atomic:
// uses: data/params, data/storage
// Two elements share a word: see packed_scalar of data/storage.wgsl.
// The name dx is a namespace to DXC (docs/naga.md).
@group(0) @binding(11) var<storage, read_write> dx_tensor: array<atomic<u32>>;

fn store_dx(element: u32, value: Vector, second: Vector) {
    let at = params.dx_offset + element;
    atomicAnd(&dx_tensor[word_of(at)], other_half(at));
    atomicOr(&dx_tensor[word_of(at)], half_of_word(value, at));
}

// case none:
// It is not wanted.
fn store_dx(element: u32, value: Vector, second: Vector) {}
