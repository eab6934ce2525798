// The gradient with respect to what was added. No two invocations write to the same place.
@group(0) @binding(16) var<storage, read_write> dz: array<Stored>;

fn store_dz(element: u32, value: Value) {
    dz[params.dz_offset + element] = stored(value);
}
