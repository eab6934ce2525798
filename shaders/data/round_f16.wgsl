// uses: data/vector

// rounded_to_type: the nearest f16 of a value; of two that are as near, the even one.

// case by_arithmetic:
// WGSL lets the driver choose between the two neighbours in a conversion, so the value is rounded before. Beside 2^13
// times its power of two, f32 holds whole units of f16 only: a sum with that rounds the value.
fn rounded_to_type(value: Vector) -> Vector {
    let size = abs(value);
    let exponent = bitcast<VectorBits>(size) & VectorBits(0x7f800000u);
    // Below 2^-14, the unit of f16 is 2^-24 throughout. From 2^16 on, none is left.
    let power = min(max(exponent, VectorBits(113u << 23u)), VectorBits(143u << 23u));
    let beside = bitcast<Vector>(power + VectorBits(13u << 23u));
    let nearest = bitcast<VectorBits>((size + beside) - opaque_vector(beside));
    // Above the largest f16 comes infinity. NaN stays NaN.
    let beyond = select(VectorBits(0u), VectorBits(0x7f800000u), nearest >= VectorBits(0x47800000u));
    let sign = bitcast<VectorBits>(value) & VectorBits(0x80000000u);
    return bitcast<Vector>(max(nearest, beyond) | sign);
}

// case by_conversion:
// The device's own conversion does so: that was tried when the device was opened. It converts a value that is hidden
// from the optimiser, which could round the last operation before it to f16 at once.
fn rounded_to_type(value: Vector) -> Vector {
    return opaque_vector(value);
}
