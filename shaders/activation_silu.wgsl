// value * sigmoid(value).
fn activated(value: Value) -> Value {
    return value * logistic(value).value;
}

fn through_activation(dy: Value, value: Value) -> Value {
    let sigmoid = logistic(value);
    return dy * (sigmoid.value + value * sigmoid.derivative);
}
