// uses: data/vector

// Whether a value is 0 or less, from its bits: comparisons with NaN, for which this is false, are not reliable under
// the drivers' fast-math rules.
fn is_not_positive(value: Value) -> Flags {
    let bits = bitcast<Words>(value);
    // Of the positive ones only, the bits less one are below those of the largest NaN.
    return (bits - Words(1u) >= Words(0x7fffffffu)) & (bits <= Words(0xff800000u));
}
