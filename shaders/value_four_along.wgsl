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
