// Batch statistics depend on x: the gradient that flows through them is taken from dy, its mean and its
// slope along x.
fn remaining(dy: Value, away: Value, projection: Projection) -> Value {
    let centered = rounded_value(dy - projection.mean_dy.hi) - projection.mean_dy.lo;
    return centered - away * projection.slope.hi;
}
