// The input alone.
@group(0) @binding(1) var<storage, read> x: array<Value>;

fn load_x(element: u32) -> Value {
    return x[params.x_offset + element];
}
