// dx = weight * inv_std * (dy - what the mean and the variance of the batch take away), for every element.

@compute @workgroup_size(WORKGROUP_SIZE)
fn backward_input(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = linear_workgroup(workgroup, grid);
    var walk = walk_begin(number, lane, params.map);
    let channel = channel_statistics(walk.channel);
    let projection = channel_projection(walk.channel);
    let scale = channel_weight(walk.channel) * channel.inv_std;
    while walk_goes_on(walk) {
        let run = walk_run(&walk);
        for (var element = run.begin; element < run.end; element += run.step) {
            store_dx(element, scale * remaining(element, channel, projection));
        }
    }
}
