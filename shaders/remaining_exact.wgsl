// As remaining_batch, but keeping what the product of slope and deviation loses by rounding: where few
// values share a channel, almost nothing remains of dy, and it would show.
fn remaining(dy: Value, away: Value, projection: Projection) -> Value {
    let centered = rounded(dy - projection.mean_dy.hi) - projection.mean_dy.lo;
    let along = exact_product(away, projection.slope.hi);
    return (rounded(centered - along.hi) - along.lo) - away * projection.slope.lo;
}
