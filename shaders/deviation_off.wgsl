// x is not needed.
fn deviation(element: u32, channel: Statistics) -> f32 {
    return 0.0;
}
