// uses: data/vector, backward/projection

// What remains of dy when what flows through the statistics is taken away: remaining.

// case running:
// Running statistics do not depend on x: all of dy remains.
fn remaining(dy: Value, away: Value, projection: Projection) -> Value {
    return dy;
}

// case batch:
// Batch statistics depend on x: the gradient that flows through them is taken from dy, its mean and its
// slope along x.
fn remaining(dy: Value, away: Value, projection: Projection) -> Value {
    let centered = rounded_value(dy - projection.mean_dy.hi) - projection.mean_dy.lo;
    return centered - away * projection.slope.hi;
}

// case batch_exact:
// uses: numerics/float_float
// As remaining_batch, but keeping what the product of slope and deviation loses by rounding: where few
// values share a channel, almost nothing remains of dy, and it would show.
fn remaining(dy: Value, away: Value, projection: Projection) -> Value {
    let centered = rounded(dy - projection.mean_dy.hi) - projection.mean_dy.lo;
    let along = exact_product(away, projection.slope.hi);
    return (rounded(centered - along.hi) - along.lo) - away * projection.slope.lo;
}
