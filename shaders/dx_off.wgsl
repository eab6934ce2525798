// The gradient with respect to the input is not wanted.
fn store_dx(element: u32, value: Value) {}
