// x and y are different buffers.
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

fn load_x(element: u32) -> f32 {
    return x[params.x_offset + element];
}

fn store_y(element: u32, value: f32) {
    y[params.y_offset + element] = value;
}
