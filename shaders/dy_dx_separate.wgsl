// dy and dx are different buffers.
@group(0) @binding(10) var<storage, read> dy: array<Value>;
@group(0) @binding(11) var<storage, read_write> dx: array<Value>;

fn load_dy(element: u32) -> Value {
    return dy[params.dy_offset + element];
}

fn store_dx(element: u32, value: Value) {
    dx[params.dx_offset + element] = value;
}
