// As remaining_batch, but keeping what the product of slope and deviation loses by rounding: where few
// values share a channel, almost nothing remains of dy, and it would show.
fn remaining(element: u32, channel: Statistics, projection: Projection) -> Value {
    let away = deviation(element, channel);
    let centered = rounded(load_dy(element) - projection.mean_dy.hi) - projection.mean_dy.lo;
    let along = exact_product(away, projection.slope.hi);
    return (rounded(centered - along.hi) - along.lo) - away * projection.slope.lo;
}
