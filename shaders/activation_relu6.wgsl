// min(max(value, 0), 6), and NaN for NaN.
fn activated(value: Value) -> Value {
    return select(select(value, Value(6.0), is_six_or_more(value)), Value(0.0), is_not_positive(value));
}

// The gradient that goes through: none at 0 and 6.
fn through_activation(dy: Value, value: Value) -> Value {
    return select(dy, Value(0.0), is_six_or_more(value) | is_not_positive(value));
}

fn is_six_or_more(value: Value) -> Flags {
    let bits = bitcast<Words>(value);
    return (bits >= Words(0x40c00000u)) & (bits <= Words(0x7f800000u));
}
