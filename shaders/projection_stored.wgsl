// What dx needs of the sums, as `backward_sums` or `backward_finalize` left it.
@group(0) @binding(14) var<storage, read> projections: array<vec4<f32>>;

fn channel_projection(channel: u32) -> Projection {
    var found: Projection;
    for (var k = 0u; k < CHANNELS_AT_ONCE; k++) {
        let of_channel = projections[channel_after(channel, k)];
        found.mean_dy.hi = with_part(found.mean_dy.hi, k, of_channel.x);
        found.mean_dy.lo = with_part(found.mean_dy.lo, k, of_channel.y);
        found.slope.hi = with_part(found.slope.hi, k, of_channel.z);
        found.slope.lo = with_part(found.slope.lo, k, of_channel.w);
    }
    return found;
}
