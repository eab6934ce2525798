// uses: data/per_channel, data/vector, statistics/type, epilogue/weight, backward/center, backward/projections

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
