// The output, in halves of words: see storage_halves.wgsl.
@group(0) @binding(2) var<storage, read_write> y: array<atomic<u32>>;

fn store_y(element: u32, value: Value) {
    let at = params.y_offset + element;
    atomicAnd(&y[place_of(at)], other_half(at));
    atomicOr(&y[place_of(at)], half_of_word(value, at));
}
