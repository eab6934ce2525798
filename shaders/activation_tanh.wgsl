// tanh(value).
fn activated(value: Value) -> Value {
    return hyperbolic(value).value;
}

fn through_activation(dy: Value, value: Value) -> Value {
    return dy * hyperbolic(value).derivative;
}
