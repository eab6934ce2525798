// Batch statistics depend on x: the gradient that flows through them is taken from dy, its mean and its
// slope along x.
@group(0) @binding(14) var<storage, read> projections: array<Projection>;

fn channel_projection(channel: u32) -> Projection {
    return projections[channel];
}

fn remaining(element: u32, channel: Statistics, projection: Projection) -> Value {
    let away = deviation(element, channel);
    let centered = rounded_value(load_dy(element) - projection.mean_dy.x) - projection.mean_dy.y;
    return centered - away * projection.slope.x;
}
