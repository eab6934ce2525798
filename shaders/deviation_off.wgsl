// x is not needed.
fn touch_x(element: u32) -> u32 {
    return 0u;
}

fn deviation(element: u32, channel: Statistics) -> Value {
    return Value();
}
