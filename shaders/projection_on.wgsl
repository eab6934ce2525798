// What dx needs of the sums is left for `backward_input`.
@group(0) @binding(14) var<storage, read_write> projections: array<vec4<f32>>;

fn store_projection(first_channel: u32, sums: Sums, of_channel: Statistics) {
    let projection = projection_of(sums, of_channel);
    for (var k = 0u; k < CHANNELS_AT_ONCE; k++) {
        projections[channel_after(first_channel, k)] = vec4<f32>(
            part(projection.mean_dy.hi, k),
            part(projection.mean_dy.lo, k),
            part(projection.slope.hi, k),
            part(projection.slope.lo, k),
        );
    }
}
