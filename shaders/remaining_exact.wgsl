// As remaining_batch, but keeping what the product of slope and deviation loses by rounding: where few
// values share a channel, almost nothing remains of dy, and it would show.
@group(0) @binding(14) var<storage, read> projections: array<Projection>;

fn channel_projection(channel: u32) -> Projection {
    return projections[channel];
}

fn remaining(element: u32, channel: Statistics, projection: Projection) -> Value {
    let away = deviation(element, channel);
    let centered = rounded(load_dy(element) - projection.mean_dy.x) - projection.mean_dy.y;
    let along = exact_product(away, projection.slope.x);
    return (rounded(centered - along.x) - along.y) - away * projection.slope.y;
}
