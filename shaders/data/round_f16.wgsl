// uses: data/vector

// The nearest f16 of a value, to even where two are as near: WGSL leaves it to the driver which of the two
// neighbours a conversion takes.
fn rounded_to_type(value: Value) -> Value {
    let bits = bitcast<Words>(value);
    let size = bits & Words(0x7fffffffu);
    let sign = bits & Words(0x80000000u);
    // Of 23 bits of the fraction, 10 are left; a carry goes into the exponent, as it should.
    let half_unit = Words(0xfffu) + ((bits >> Words(13u)) & Words(1u));
    let normal = bitcast<Value>((bits + half_unit) & Words(0xffffe000u));
    // Below 2^-14, the unit is 2^-24 throughout.
    let subnormal = round(value * 16777216.0) * 5.9604644775390625e-8;
    let nearest = select(normal, subnormal, size < Words(0x38800000u));
    // From 65520 on, half a unit above the largest, it is infinity; and NaN stays NaN.
    let beyond = select(Words(0x7f800000u), Words(0x7fc00000u), size > Words(0x7f800000u));
    return select(nearest, bitcast<Value>(beyond | sign), size >= Words(0x477ff000u));
}
