// y overwrites x: one binding for both, since a dispatch cannot read and write a buffer through two.
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

fn load_x(element: u32) -> f32 {
    return y[params.y_offset + element];
}

fn store_y(element: u32, value: f32) {
    y[params.y_offset + element] = value;
}
