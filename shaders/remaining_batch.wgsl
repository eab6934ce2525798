// Batch statistics depend on x: the gradient that flows through them is taken from dy, its mean and its
// slope along x.
@group(0) @binding(14) var<storage, read> projections: array<Projection>;

fn channel_projection(channel: u32) -> Projection {
    return projections[channel];
}

fn remaining(element: u32, channel: Statistics, projection: Projection) -> f32 {
    let away = deviation(element, channel);
    let centered = rounded(load_dy(element) - projection.mean_dy.x) - projection.mean_dy.y;
    if EXACT_PRODUCTS == 0u {
        return centered - away * projection.slope.x;
    }
    // Where few values share a channel, almost nothing remains, and the product's rounding would show.
    let along = exact_product(away, projection.slope.x);
    return (rounded(centered - along.x) - along.y) - away * projection.slope.y;
}
