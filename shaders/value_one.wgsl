// Elements are loaded one by one.
alias Value = f32;

// Its bits, and what is true of its elements.
alias Words = u32;
alias Flags = bool;

// Elements in a Value, and how many of them are of one channel.
const WIDTH: u32 = 1u;
const VALUES_OF_CHANNEL: u32 = 1u;

fn first(value: Value) -> Number {
    return value;
}

fn total(value: Value) -> Number {
    return value;
}

// See `rounded`.
fn rounded_value(value: Value) -> Value {
    return rounded(value);
}
