// value * (1 + tanh(inner)) / 2 with inner = sqrt(2 / pi) * (value + 0.044715 * value^3).
fn activated(value: Value) -> Value {
    return value * (0.5 * hyperbolic(inner(value)).value + 0.5);
}

fn through_activation(dy: Value, value: Value) -> Value {
    let tangent = hyperbolic(inner(value));
    let inner_derivative = value * value * 0.107032227 + 0.797884561;
    return dy * (0.5 * tangent.value + 0.5 + 0.5 * value * tangent.derivative * inner_derivative);
}

fn inner(value: Value) -> Value {
    return value * (value * value * 0.0356774081 + 0.797884561);
}
