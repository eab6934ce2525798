// No activation.
fn activated(value: Value) -> Value {
    return value;
}
