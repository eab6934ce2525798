// uses: numerics/float_float

// The projection of a channel, and what becomes of it between two dispatches: store_projection, channel_projection.

// The part of dy that dx loses: its mean, and its slope along x. Both are float-float, because if few values share a
// channel, almost all of dy is lost, and the rest shows every rounding.
struct Projection {
    mean_dy: FloatFloat,
    slope: FloatFloat,
}

// case store:
// uses: data/per_channel, statistics/type, backward/projection_of, backward/sums
// `backward_input` will read it.
@group(0) @binding(14) var<storage, read_write> projections: array<vec4<f32>>;

fn store_projection(first_channel: u32, sums: Sums, of_channel: Statistics) {
    let projection = projection_of(sums, of_channel);
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        projections[channel_after(first_channel, k)] = vec4<f32>(
            component(projection.mean_dy.hi, k),
            component(projection.mean_dy.lo, k),
            component(projection.slope.hi, k),
            component(projection.slope.lo, k),
        );
    }
}

// case not_stored:
// uses: statistics/type, backward/sums
// Nobody will read it.
fn store_projection(first_channel: u32, sums: Sums, of_channel: Statistics) {}

// case read:
// uses: data/per_channel
// `backward_sums` or `backward_finalize` stored it.
@group(0) @binding(14) var<storage, read> projections: array<vec4<f32>>;

fn channel_projection(channel: u32) -> Projection {
    var found: Projection;
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        let of_channel = projections[channel_after(channel, k)];
        found.mean_dy.hi = with_component(found.mean_dy.hi, k, of_channel.x);
        found.mean_dy.lo = with_component(found.mean_dy.lo, k, of_channel.y);
        found.slope.hi = with_component(found.slope.hi, k, of_channel.z);
        found.slope.lo = with_component(found.slope.lo, k, of_channel.w);
    }
    return found;
}

// case none:
// Running statistics do not depend on x: nothing is taken from dy.
fn channel_projection(channel: u32) -> Projection {
    return Projection();
}
