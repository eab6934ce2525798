// Elements are loaded and computed one by one.
alias Value = f32;

const WIDTH: u32 = 1u;

fn first(value: Value) -> f32 {
    return value;
}

fn total(value: Value) -> f32 {
    return value;
}

// See `rounded`.
fn rounded_value(value: Value) -> Value {
    return rounded(value);
}
