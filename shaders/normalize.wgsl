// Normalises every element, then scales and shifts it.

@compute @workgroup_size(WORKGROUP_SIZE)
fn normalize(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    params = uniform_params;
    let number = linear_workgroup(workgroup, grid);
    touch_tile(number, lane, params.map);
    for (var part = 0u; part < PARTS; part++) {
        var walk = walk_begin(number, lane, part, params.map);
        let own = normal_of(walk.channel, channel_statistics(walk.channel));
        // Where a load may reach into the next channel's plane, that one is normalised, too.
        var next = own;
        if RAGGED {
            let channel = next_channel(walk.channel);
            next = normal_of(channel, channel_statistics(channel));
        }
        while walk_goes_on(walk) {
            let run = walk_own_run(&walk);
            for (var element = run.begin; element < run.end; element += run.step) {
                let value = load_x(element);
                store_y(element, inside_or(normalized(value, next), normalized(value, own), run, element));
            }
        }
    }
}
