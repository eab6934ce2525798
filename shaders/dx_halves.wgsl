// The gradient with respect to the input, in halves of words: see storage_halves.wgsl.
// Not named dx: that is a namespace to DXC (docs/naga.md).
@group(0) @binding(11) var<storage, read_write> dx_tensor: array<atomic<u32>>;

fn store_dx(element: u32, value: Value) {
    let at = params.dx_offset + element;
    atomicAnd(&dx_tensor[place_of(at)], other_half(at));
    atomicOr(&dx_tensor[place_of(at)], half_of_word(value, at));
}
