// uses: data/vector

// The nearest f16 of a value; of two that are as near, the even one. WGSL lets the driver choose between the two
// neighbours in a conversion.
fn rounded_to_type(value: Vector) -> Vector {
    let bits = bitcast<VectorBits>(value);
    let size = bits & VectorBits(0x7fffffffu);
    let sign = bits & VectorBits(0x80000000u);
    // 10 of the 23 bits of the fraction are left. A carry goes into the exponent, as it should.
    let half_unit = VectorBits(0xfffu) + ((bits >> VectorBits(13u)) & VectorBits(1u));
    let normal = bitcast<Vector>((bits + half_unit) & VectorBits(0xffffe000u));
    // Below 2^-14, the unit is 2^-24 throughout.
    let subnormal = round(value * 16777216.0) * 5.9604644775390625e-8;
    let nearest = select(normal, subnormal, size < VectorBits(0x38800000u));
    // Values from 65520 on, half a unit above the largest f16, become infinity. NaN stays NaN.
    let beyond = select(VectorBits(0x7f800000u), VectorBits(0x7fc00000u), size > VectorBits(0x7f800000u));
    return select(nearest, bitcast<Vector>(beyond | sign), size >= VectorBits(0x477ff000u));
}
