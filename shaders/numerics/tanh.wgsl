// uses: data/vector, numerics/exponential

// tanh(value) and its derivative 1 - tanh(value)^2 = 1 / cosh(value)^2, which loses nothing where tanh is near 1.
struct Hyperbolic {
    value: Vector,
    derivative: Vector,
}

fn hyperbolic(value: Vector) -> Hyperbolic {
    let size = abs(value);
    let square = value * value;
    var series = square * -6.05369778e-3 + 2.09681876e-2;
    series = series * square - 5.38449883e-2;
    series = series * square + 1.33327335e-1;
    series = series * square - 3.33333284e-1;
    let near_zero = series * square * value + value;
    // From 10 on, tanh is 1 in f32.
    let small = exponential(-2.0 * size);
    let far = 1.0 - 2.0 * small / (1.0 + small);
    let signed = select(far, -far, value < Vector(0.0));
    let result = select(signed, near_zero, size < Vector(0.625));
    return Hyperbolic(select(result, value, is_nan(value)), 4.0 * small / ((1.0 + small) * (1.0 + small)));
}
