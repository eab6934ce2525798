// uses: data/vector, numerics/exponential

// 1 / (1 + e^-value) and its derivative. The exponential is at most 1 here: nothing overflows, and nothing is lost
// where the sigmoid is near 1.
struct Logistic {
    value: Vector,
    derivative: Vector,
}

fn logistic(value: Vector) -> Logistic {
    let small = exponential(-abs(value));
    let large = 1.0 / (1.0 + small);
    return Logistic(select(large, small * large, value < Vector(0.0)), small * large * large);
}
