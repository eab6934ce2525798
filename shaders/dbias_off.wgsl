// The gradient with respect to the bias is not wanted.
fn store_dbias(channel: u32, value: f32) {}
