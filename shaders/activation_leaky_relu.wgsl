// The value, times a slope where it is not positive.
fn activated(value: Value) -> Value {
    return select(value, value * params.slope, is_not_positive(value));
}

fn through_activation(dy: Value, value: Value) -> Value {
    return select(dy, dy * params.slope, is_not_positive(value));
}
