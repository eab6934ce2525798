// uses: data/vector

// The gradient with respect to what was added: store_dresidual.

// case store:
// uses: data/params, data/storage
// No two invocations write to the same place.
@group(0) @binding(16) var<storage, read_write> dresidual: array<Stored>;

fn store_dresidual(element: u32, value: Vector, second: Vector) {
    dresidual[params.dresidual_offset + element] = stored(value, second);
}

// case store_atomic:
// uses: data/params, data/storage
// Two elements share a word: see packed_scalar of data/storage.wgsl.
@group(0) @binding(16) var<storage, read_write> dresidual: array<atomic<u32>>;

fn store_dresidual(element: u32, value: Vector, second: Vector) {
    let at = params.dresidual_offset + element;
    atomicAnd(&dresidual[word_of(at)], other_half(at));
    atomicOr(&dresidual[word_of(at)], half_of_word(value, at));
}

// case none:
// It is not wanted.
fn store_dresidual(element: u32, value: Vector, second: Vector) {}
