// uses: data/params, data/storage, data/vector

// The output: store_y.

// case store:
// No two invocations write to the same place.
@group(0) @binding(2) var<storage, read_write> y: array<Stored>;

fn store_y(element: u32, value: Vector, second: Vector) {
    y[params.y_offset + element] = stored(value, second);
}

// case store_atomic:
// Two elements share a word: see packed_scalar of data/storage.wgsl.
@group(0) @binding(2) var<storage, read_write> y: array<atomic<u32>>;

fn store_y(element: u32, value: Vector, second: Vector) {
    let at = params.y_offset + element;
    atomicAnd(&y[word_of(at)], other_half(at));
    atomicOr(&y[word_of(at)], half_of_word(value, at));
}
