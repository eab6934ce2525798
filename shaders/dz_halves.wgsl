// The gradient with respect to what was added, in halves of words: see storage_halves.wgsl.
@group(0) @binding(16) var<storage, read_write> dz: array<atomic<u32>>;

fn store_dz(element: u32, value: Value) {
    let at = params.dz_offset + element;
    atomicAnd(&dz[place_of(at)], other_half(at));
    atomicOr(&dz[place_of(at)], half_of_word(value, at));
}
