// uses: numerics/float_float

// The projection of a channel, and what becomes of it between two dispatches: store_projection, channel_projection.
// `finishes` says whether it is for this workgroup to store what follows from partial results.

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

// case merged:
// uses: entry, lanes, iterate/partials, statistics/type, backward/finish_channel, backward/projection_of
// uses: backward/sums
// Each workgroup merges the partial sums of its channel, in the same order.
fn store_projection(first_channel: u32, sums: Sums, of_channel: Statistics) {}

fn channel_projection(channel: u32, of_channel: Statistics, invocation: Invocation, finishes: bool) -> Projection {
    let merged = merged_channel(channel, invocation);
    if finishes && is_leader(invocation) {
        finish_channel(channel, merged, of_channel);
    }
    return projection_of(merged, of_channel);
}

// case read:
// uses: entry, data/per_channel, statistics/type
// `backward_sums` or `backward_finalize` stored it.
@group(0) @binding(14) var<storage, read> projections: array<vec4<f32>>;

fn channel_projection(channel: u32, of_channel: Statistics, invocation: Invocation, finishes: bool) -> Projection {
    var found: Projection;
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        let stored = projections[channel_after(channel, k)];
        found.mean_dy.hi = with_component(found.mean_dy.hi, k, stored.x);
        found.mean_dy.lo = with_component(found.mean_dy.lo, k, stored.y);
        found.slope.hi = with_component(found.slope.hi, k, stored.z);
        found.slope.lo = with_component(found.slope.lo, k, stored.w);
    }
    return found;
}

// case none:
// uses: entry, statistics/type
// Running statistics do not depend on x: nothing is taken from dy.
fn channel_projection(channel: u32, of_channel: Statistics, invocation: Invocation, finishes: bool) -> Projection {
    return Projection();
}
