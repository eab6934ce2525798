// The nearest bf16 of a value, to even where two are as near. Of 23 bits of the fraction, 7 are left; a carry goes
// into the exponent, as it should. NaN stays NaN, where a carry could make infinity or zero of it.
fn rounded_to_type(value: Value) -> Value {
    let bits = bitcast<Words>(value);
    let half_unit = Words(0x7fffu) + ((bits >> Words(16u)) & Words(1u));
    let nearest = (bits + half_unit) & Words(0xffff0000u);
    let is_nan = (bits & Words(0x7fffffffu)) > Words(0x7f800000u);
    return bitcast<Value>(select(nearest, bits | Words(0x00400000u), is_nan));
}
