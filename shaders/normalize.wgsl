// y = ((x - mean_hi) - mean_lo) * (weight * inv_std) + bias, for every element.
//
// The mean is subtracted first: y = x * a + b with a folded b would lose the digits that a large mean has
// in common with x.

@compute @workgroup_size(WORKGROUP_SIZE)
fn normalize(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = linear_workgroup(workgroup, grid);
    var walk = walk_begin(number, lane, params.map);
    let channel = channel_statistics(walk.channel);
    let scale = channel_weight(walk.channel) * channel.inv_std;
    let shift = channel_bias(walk.channel);
    while walk_goes_on(walk) {
        let run = walk_run(&walk);
        for (var element = run.begin; element < run.end; element += run.step) {
            let deviation = rounded_value(load_x(element) - channel.mean_hi) - channel.mean_lo;
            store_y(element, deviation * scale + shift);
        }
    }
}
