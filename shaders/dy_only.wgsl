// The gradient with respect to the output, alone.
@group(0) @binding(10) var<storage, read> dy: array<Value>;

fn load_dy(element: u32) -> Value {
    return dy[params.dy_offset + element];
}
