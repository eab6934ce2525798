// The gradient with respect to the input. No two invocations write to the same place.
@group(0) @binding(11) var<storage, read_write> dx: array<Stored>;

fn store_dx(element: u32, value: Value) {
    dx[params.dx_offset + element] = stored(value);
}
