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
    var walk = walk_begin(number, lane, params.map_splits, params.map_chunk);
    let channel = channel_statistics(walk.channel);
    let scale = channel_weight(walk.channel) * channel.inv_std;
    let shift = channel_bias(walk.channel);
    while walk.value < walk.end {
        let deviation = rounded(load_x(walk.element) - channel.mean_hi) - channel.mean_lo;
        store_y(walk.element, deviation * scale + shift);
        walk_on(&walk);
    }
}
