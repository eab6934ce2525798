// y overwrites x: one binding for both, since a dispatch cannot read and write a buffer through two.
@group(0) @binding(2) var<storage, read_write> y: array<Value>;

fn load_x(element: u32) -> Value {
    return y[params.y_offset + element];
}

fn store_y(element: u32, value: Value) {
    y[params.y_offset + element] = value;
}
