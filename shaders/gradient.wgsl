// What dx is computed with, of one channel.
struct Gradient {
    statistics: Statistics,
    projection: Projection,
    scale: Number,
}

fn gradient_of(channel: u32, statistics: Statistics, projection: Projection) -> Gradient {
    return Gradient(statistics, projection, channel_weight(channel) * statistics.inv_std);
}

fn input_gradient(element: u32, gradient: Gradient) -> Value {
    return gradient.scale * remaining(element, gradient.statistics, gradient.projection);
}

// See `touch_tile`.
fn touch(element: u32) -> u32 {
    return touch_x(element) | touch_dy(element);
}
