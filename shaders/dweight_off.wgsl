// The gradient with respect to the weight is not wanted.
fn store_dweight(first_channel: u32, value: Number) {}
