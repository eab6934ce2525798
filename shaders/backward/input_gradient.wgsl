// uses: data/per_channel, data/vector, statistics/type, epilogue/weight, backward/projections
// needs: project_out

// dx of an element: gradient_of, input_gradient.

// What dx of a channel is computed with.
struct Gradient {
    statistics: Statistics,
    projection: Projection,
    scale: PerChannel,
}

fn gradient_of(channel: u32, statistics: Statistics, projection: Projection) -> Gradient {
    return Gradient(statistics, projection, channel_weight(channel) * statistics.inv_std);
}

// dx of an element from its dy and the deviation of its x.
fn input_gradient(dy: Vector, deviation: Vector, gradient: Gradient) -> Vector {
    return gradient.scale * project_out(dy, deviation, gradient.projection);
}

// case running:
// project_out takes from dy what flows through the statistics. Running ones do not depend on x: nothing is taken from
// dy.
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
