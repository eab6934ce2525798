// The output. No two invocations write to the same place.
@group(0) @binding(2) var<storage, read_write> y: array<Stored>;

fn store_y(element: u32, value: Value) {
    y[params.y_offset + element] = stored(value);
}
