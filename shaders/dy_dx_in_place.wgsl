// dx overwrites dy: one binding for both.
@group(0) @binding(11) var<storage, read_write> dx: array<f32>;

fn load_dy(element: u32) -> f32 {
    return dx[params.dx_offset + element];
}

fn store_dx(element: u32, value: f32) {
    dx[params.dx_offset + element] = value;
}
