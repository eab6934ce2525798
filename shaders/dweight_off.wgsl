// The gradient with respect to the weight is not wanted.
fn store_dweight(channel: u32, value: f32) {}
