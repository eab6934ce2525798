// Elements are loaded and computed in fours: planes are a multiple of four long, and sizes along them and
// offsets count fours.
alias Value = vec4<f32>;

const WIDTH: u32 = 4u;

fn first(value: Value) -> f32 {
    return value.x;
}

fn total(value: Value) -> f32 {
    return (value.x + value.y) + (value.z + value.w);
}

// See `rounded`.
fn rounded_value(value: Value) -> Value {
    return bitcast<Value>(bitcast<vec4<u32>>(value) ^ vec4<u32>(params.zero));
}
