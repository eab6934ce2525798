// dx overwrites dy: one binding for both.
@group(0) @binding(11) var<storage, read_write> dx: array<Value>;

fn load_dy(element: u32) -> Value {
    return dx[params.dx_offset + element];
}

fn store_dx(element: u32, value: Value) {
    dx[params.dx_offset + element] = value;
}
