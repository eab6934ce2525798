// The gradient with respect to the output, alone.
@group(0) @binding(10) var<storage, read> dy: array<f32>;

fn load_dy(element: u32) -> f32 {
    return dy[params.dy_offset + element];
}
