// x and y are different buffers.
@group(0) @binding(1) var<storage, read> x: array<Value>;
@group(0) @binding(2) var<storage, read_write> y: array<Value>;

fn load_x(element: u32) -> Value {
    return x[params.x_offset + element];
}

fn store_y(element: u32, value: Value) {
    y[params.y_offset + element] = value;
}
