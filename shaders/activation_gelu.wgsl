// value * cdf(value), where cdf(value) = (1 + erf(value / sqrt(2))) / 2 is the distribution function of the normal
// distribution.
fn activated(value: Value) -> Value {
    return value * cdf(value);
}

fn through_activation(dy: Value, value: Value) -> Value {
    let density = exponential(value * value * -0.5) * 0.398942280;
    return dy * (cdf(value) + value * density);
}

fn cdf(value: Value) -> Value {
    return 0.5 * error_function(value * 0.707106781) + 0.5;
}

// erf(value), to about one unit in the last place: below 1 by a polynomial, above by 1 - e^(a polynomial).
fn error_function(value: Value) -> Value {
    let size = abs(value);
    let square = value * value;
    var below = square * -9.67359319e-6 + 1.12682537e-4;
    below = below * square - 8.48439639e-4;
    below = below * square + 5.22105349e-3;
    below = below * square - 2.68654376e-2;
    below = below * square + 1.12837829e-1;
    below = below * square - 3.76126379e-1;
    below = below * square + 1.28379166e-1;
    // From 3.95 on, erf is 1 in f32.
    let far = min(size, Value(3.95));
    var exponent = far * -6.12854478e-8 + 2.99202998e-6;
    exponent = exponent * far - 5.90479904e-5;
    exponent = exponent * far + 6.67570042e-4;
    exponent = exponent * far - 5.00056520e-3;
    exponent = exponent * far + 2.69521662e-2;
    exponent = exponent * far - 1.10836312e-1;
    exponent = exponent * far + 3.68844271e-1;
    exponent = exponent * far - 1.13056874;
    exponent = exponent * far + 3.92270537e-4;
    let above = 1.0 - exponential(exponent - far * far);
    let signed = select(above, -above, value < Value(0.0));
    let result = select(signed, below * value + value, size < Value(1.0));
    return select(result, value, is_nan(value));
}
