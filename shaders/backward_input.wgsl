// dx = weight * inv_std * (dy - what the mean and the variance of the batch take away), for every element.

@compute @workgroup_size(WORKGROUP_SIZE)
fn backward_input(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    params = uniform_params;
    let number = linear_workgroup(workgroup, grid);
    touch_tile(number, lane, params.map);
    for (var part = 0u; part < PARTS; part++) {
        var walk = walk_begin(number, lane, part, params.map);
        let channel = walk.channel;
        let own = gradient_of(channel, channel_statistics(channel), channel_projection(channel));
        // Where a load may reach into the next channel's plane, that one's gradient is computed, too.
        var next = own;
        if RAGGED {
            let after = next_channel(channel);
            next = gradient_of(after, channel_statistics(after), channel_projection(after));
        }
        while walk_goes_on(walk) {
            let run = walk_own_run(&walk);
            for (var element = run.begin; element < run.end; element += run.step) {
                let x = load_x(element);
                let dy = load_dy(element);
                var dx = input_gradient(dy, deviation(x, own.statistics), own);
                if RAGGED {
                    let away = deviation(x, next.statistics);
                    dx = inside_or(input_gradient(dy, away, next), dx, run, element);
                }
                store_dx(element, dx);
            }
        }
    }
}
