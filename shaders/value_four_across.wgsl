// Elements are loaded in fours across channels: each of a channel of its own.
alias Value = Number;

// Its bits, and what is true of its elements.
alias Words = vec4<u32>;
alias Flags = vec4<bool>;

// Elements in a Value, and how many of them are of one channel.
const WIDTH: u32 = 4u;
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
