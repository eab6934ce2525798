// uses: data/vector, backward/projections

// project_out: dy without what flows through the statistics.

// case running:
// Running statistics do not depend on x: nothing is taken from dy.
fn project_out(dy: Vector, deviation: Vector, projection: Projection) -> Vector {
    return dy;
}

// case batch:
// Batch statistics depend on x: the mean of dy and its slope along x are taken from dy.
fn project_out(dy: Vector, deviation: Vector, projection: Projection) -> Vector {
    let centered = opaque_vector(dy - projection.mean_dy.hi) - projection.mean_dy.lo;
    return centered - deviation * projection.slope.hi;
}

// case batch_exact:
// uses: numerics/float_float
// The same with an exact product of slope and deviation: if few values share a channel, almost nothing is left of dy,
// and rounding errors would show.
fn project_out(dy: Vector, deviation: Vector, projection: Projection) -> Vector {
    let centered = opaque(dy - projection.mean_dy.hi) - projection.mean_dy.lo;
    let along = exact_product(deviation, projection.slope.hi);
    return (opaque(centered - along.hi) - along.lo) - deviation * projection.slope.lo;
}
