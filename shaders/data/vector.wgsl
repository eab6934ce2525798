// uses: data/per_channel

// What is loaded and computed at once: Value.

// case scalar:
// uses: numerics/float_float
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

// case four_elements:
// uses: data/params
// Elements are loaded in fours along a plane: all of one channel.
alias Value = vec4<f32>;

// Its bits, and what is true of its elements.
alias Words = vec4<u32>;
alias Flags = vec4<bool>;

// Elements in a Value, and how many of them are of one channel.
const WIDTH: u32 = 4u;
const VALUES_OF_CHANNEL: u32 = 4u;

fn first(value: Value) -> Number {
    return value.x;
}

fn total(value: Value) -> Number {
    return (value.x + value.y) + (value.z + value.w);
}

// See `rounded`.
fn rounded_value(value: Value) -> Value {
    return bitcast<Value>(bitcast<Words>(value) ^ Words(params.zero));
}

// case four_channels:
// uses: numerics/float_float
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
