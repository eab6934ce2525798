// The gradient with respect to what was added is not wanted.
fn store_dz(element: u32, value: Value) {}
