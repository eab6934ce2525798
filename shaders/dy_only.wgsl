// The gradient with respect to the output, alone.
@group(0) @binding(10) var<storage, read> dy: array<Value>;

fn touch_dy(element: u32) -> u32 {
    return first_bits(dy[params.dy_offset + element]);
}

fn load_dy(element: u32) -> Value {
    return dy[params.dy_offset + element];
}
