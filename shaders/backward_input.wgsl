// dx = weight * inv_std * (dy - what the mean and the variance of the batch take away), for every element.

@compute @workgroup_size(WORKGROUP_SIZE)
fn backward_input(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    params = uniform_params;
    var walk = walk_begin(linear_workgroup(workgroup, grid), lane, params.map);
    var own: array<Gradient, ABREAST>;
    for (var k = 0u; k < ABREAST; k++) {
        let channel = walk_channel(walk, k);
        own[k] = gradient_of(channel, channel_statistics(channel), channel_projection(channel));
    }
    // Where a load may reach into the next channel's plane, that one's gradient is computed, too.
    var next = own[0];
    if RAGGED {
        let after = next_channel(walk_channel(walk, 0u));
        next = gradient_of(after, channel_statistics(after), channel_projection(after));
    }
    while walk_goes_on(walk) {
        let run = walk_own_run(&walk);
        for (var element = run.begin; element < run.end; element += run.step) {
            for (var k = 0u; k < ABREAST; k++) {
                if has_beside(walk, k) {
                    let x = load_x(beside(element, k));
                    let dy = load_dy(beside(element, k));
                    var dx = input_gradient(dy, deviation(x, own[k].statistics), own[k]);
                    if RAGGED {
                        let away = deviation(x, next.statistics);
                        dx = inside_or(input_gradient(dy, away, next), dx, run, element);
                    }
                    store_dx(beside(element, k), dx);
                }
            }
        }
    }
}
