// uses: data/vector

// Whether a value is 0 or less; false for NaN. The bits tell: comparisons with NaN are not reliable under the drivers'
// fast-math rules.
fn is_not_positive(value: Vector) -> VectorMask {
    let bits = bitcast<VectorBits>(value);
    // Only the bits of positive values, less one, are below those of the largest NaN.
    return (bits - VectorBits(1u) >= VectorBits(0x7fffffffu)) & (bits <= VectorBits(0xff800000u));
}
