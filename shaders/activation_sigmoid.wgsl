// 1 / (1 + e^-value).
fn activated(value: Value) -> Value {
    return logistic(value).value;
}

fn through_activation(dy: Value, value: Value) -> Value {
    return dy * logistic(value).derivative;
}
