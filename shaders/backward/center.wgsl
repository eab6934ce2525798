// uses: data/vector, backward/projection

// What remains of dy when what flows through the statistics is taken away: remaining.

// case running:
// Running statistics do not depend on x: all of dy remains.
fn project_out(dy: Vector, deviation: Vector, projection: Projection) -> Vector {
    return dy;
}

// case batch:
// Batch statistics depend on x: the gradient that flows through them is taken from dy, its mean and its
// slope along x.
fn project_out(dy: Vector, deviation: Vector, projection: Projection) -> Vector {
    let centered = opaque_vector(dy - projection.mean_dy.hi) - projection.mean_dy.lo;
    return centered - deviation * projection.slope.hi;
}

// case batch_exact:
// uses: numerics/float_float
// The same, but keeping what the product of slope and deviation loses by rounding: where few
// values share a channel, almost nothing remains of dy, and it would show.
fn project_out(dy: Vector, deviation: Vector, projection: Projection) -> Vector {
    let centered = opaque(dy - projection.mean_dy.hi) - projection.mean_dy.lo;
    let along = exact_product(deviation, projection.slope.hi);
    return (opaque(centered - along.hi) - along.lo) - deviation * projection.slope.lo;
}
