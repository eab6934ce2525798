// max(value, 0), and NaN for NaN.
fn activated(value: Value) -> Value {
    return select(value, Value(0.0), is_not_positive(value));
}

// The gradient that goes through: none at 0.
fn through_activation(dy: Value, value: Value) -> Value {
    return select(dy, Value(0.0), is_not_positive(value));
}
