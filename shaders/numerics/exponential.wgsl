// uses: data/vector

// e^value for values up to 88, to about one unit in the last place. WGSL's own may be off by hundreds of units. Below
// -87, this one is 0.
//
// e^value = 2^n * e^rest with |rest| <= ln(2) / 2, which is so small that a polynomial of degree 7 will do.
fn exponential(value: Vector) -> Vector {
    let clamped = max(value, Vector(-88.0));
    let n = round(clamped * 1.44269504);
    // ln(2) in two parts: the product with the first one is exact.
    let rest = (clamped - n * 0.693359375) + n * 2.12194440e-4;
    var series = rest * 1.98993905e-4 + 1.39337324e-3;
    series = series * rest + 8.33329838e-3;
    series = series * rest + 4.16664630e-2;
    series = series * rest + 1.66666672e-1;
    series = series * rest + 0.5;
    series = series * rest * rest + rest + 1.0;
    // 1.5 * 2^23 + n has n in its last bits; there it is shifted to the exponent.
    let power = (bitcast<VectorBits>(n + 12582912.0) << VectorBits(23u)) + VectorBits(0x3f800000u);
    let result = select(series * bitcast<Vector>(power), Vector(0.0), value < Vector(-87.0));
    return select(result, value, is_nan(value));
}

// The bits tell: comparisons with NaN are not reliable under the drivers' fast-math rules.
fn is_nan(value: Vector) -> VectorMask {
    return (bitcast<VectorBits>(value) & VectorBits(0x7fffffffu)) > VectorBits(0x7f800000u);
}
