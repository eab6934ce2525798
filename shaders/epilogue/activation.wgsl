// uses: data/vector

// The activation, activated, and its gradient, through_activation.

// Whether a value is 0 or less; false for NaN. The bits tell: comparisons with NaN are not reliable under the drivers'
// fast-math rules.
fn is_not_positive(value: Vector) -> VectorMask {
    let bits = bitcast<VectorBits>(value);
    // Only the bits of positive values, less one, are below those of the largest NaN.
    return (bits - VectorBits(1u) >= VectorBits(0x7fffffffu)) & (bits <= VectorBits(0xff800000u));
}

// case identity:
// No activation.
fn activated(value: Vector) -> Vector {
    return value;
}

// case relu:
// max(value, 0), and NaN for NaN.
fn activated(value: Vector) -> Vector {
    return select(value, Vector(0.0), is_not_positive(value));
}

// The gradient that goes through: none at 0.
fn through_activation(dy: Vector, value: Vector) -> Vector {
    return select(dy, Vector(0.0), is_not_positive(value));
}

// case leaky_relu:
// uses: data/params
// The value, times a slope unless it is positive.
fn activated(value: Vector) -> Vector {
    return select(value * params.slope, value, is_positive(value));
}

// The gradient that goes through: also times the slope at NaN.
fn through_activation(dy: Vector, value: Vector) -> Vector {
    return select(dy * params.slope, dy, is_positive(value));
}

// Whether a value is above 0; false for NaN. The bits tell, as in is_not_positive.
fn is_positive(value: Vector) -> VectorMask {
    // Less one, the bits of 0 and of everything negative are above those of infinity, and so are those of NaN.
    return bitcast<VectorBits>(value) - VectorBits(1u) < VectorBits(0x7f800000u);
}

// case relu6:
// min(max(value, 0), 6), and NaN for NaN.
fn activated(value: Vector) -> Vector {
    return select(select(value, Vector(6.0), is_six_or_more(value)), Vector(0.0), is_not_positive(value));
}

// The gradient that goes through: none at 0 and 6.
fn through_activation(dy: Vector, value: Vector) -> Vector {
    return select(dy, Vector(0.0), is_six_or_more(value) | is_not_positive(value));
}

fn is_six_or_more(value: Vector) -> VectorMask {
    let bits = bitcast<VectorBits>(value);
    return (bits >= VectorBits(0x40c00000u)) & (bits <= VectorBits(0x7f800000u));
}

// case silu:
// uses: numerics/logistic
// value * sigmoid(value).
fn activated(value: Vector) -> Vector {
    return value * logistic(value).value;
}

fn through_activation(dy: Vector, value: Vector) -> Vector {
    let sigmoid = logistic(value);
    return dy * (sigmoid.value + value * sigmoid.derivative);
}

// case sigmoid:
// uses: numerics/logistic
// 1 / (1 + e^-value).
fn activated(value: Vector) -> Vector {
    return logistic(value).value;
}

fn through_activation(dy: Vector, value: Vector) -> Vector {
    return dy * logistic(value).derivative;
}

// case tanh:
// uses: numerics/tanh
// tanh(value).
fn activated(value: Vector) -> Vector {
    return hyperbolic(value).value;
}

fn through_activation(dy: Vector, value: Vector) -> Vector {
    return dy * hyperbolic(value).derivative;
}

// case gelu:
// uses: numerics/exponential
// value * cdf(value), where cdf(value) = (1 + erf(value / sqrt(2))) / 2 is the distribution function of the normal
// distribution.
fn activated(value: Vector) -> Vector {
    return value * cdf(value);
}

fn through_activation(dy: Vector, value: Vector) -> Vector {
    let density = exponential(value * value * -0.5) * 0.398942280;
    return dy * (cdf(value) + value * density);
}

fn cdf(value: Vector) -> Vector {
    return 0.5 * error_function(value * 0.707106781) + 0.5;
}

// erf(value), to about one unit in the last place: below 1 by a polynomial, above by 1 - e^(a polynomial).
fn error_function(value: Vector) -> Vector {
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
    let far = min(size, Vector(3.95));
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
    let signed = select(above, -above, value < Vector(0.0));
    let result = select(signed, below * value + value, size < Vector(1.0));
    return select(result, value, is_nan(value));
}

// case gelu_tanh:
// uses: numerics/tanh
// value * (1 + tanh(inner)) / 2 with inner = sqrt(2 / pi) * (value + 0.044715 * value^3).
fn activated(value: Vector) -> Vector {
    return value * (0.5 * hyperbolic(inner(value)).value + 0.5);
}

fn through_activation(dy: Vector, value: Vector) -> Vector {
    let tangent = hyperbolic(inner(value));
    let inner_derivative = value * value * 0.107032227 + 0.797884561;
    return dy * (0.5 * tangent.value + 0.5 + 0.5 * value * tangent.derivative * inner_derivative);
}

fn inner(value: Vector) -> Vector {
    return value * (value * value * 0.0356774081 + 0.797884561);
}
