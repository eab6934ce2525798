// The input alone.
@group(0) @binding(1) var<storage, read> x: array<f32>;

fn load_x(element: u32) -> f32 {
    return x[params.x_offset + element];
}
