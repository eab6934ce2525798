// Batch statistics depend on x: the gradient that flows through them is taken from dy, its mean and its
// slope along x.
fn remaining(element: u32, channel: Statistics, projection: Projection) -> Value {
    let away = deviation(element, channel);
    let centered = rounded_value(load_dy(element) - projection.mean_dy.hi) - projection.mean_dy.lo;
    return centered - away * projection.slope.hi;
}
