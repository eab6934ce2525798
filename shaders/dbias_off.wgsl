// The gradient with respect to the bias is not wanted.
fn store_dbias(first_channel: u32, value: Number) {}
