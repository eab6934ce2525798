// The gradient with respect to the input. No two invocations write to the same place.
// Not named dx: that is a namespace to DXC (docs/naga.md).
@group(0) @binding(11) var<storage, read_write> dx_tensor: array<Stored>;

fn store_dx(element: u32, value: Value) {
    dx_tensor[params.dx_offset + element] = stored(value);
}
