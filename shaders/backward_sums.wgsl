// Partial sums of dy and of dy * (x - mean) of every channel: each workgroup (planes) or invocation
// (columns) reduces one split of one channel and writes partials[split * channels + channel].

@group(0) @binding(9) var<storage, read_write> partials: array<Partial>;

// The plain sums run over blocks of so many values, so that their rounding errors stay small.
const BLOCK: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn backward_sums(invocation: Invocation) {
    let workgroup = linear_workgroup(invocation.workgroup, invocation.grid);
    var walk = walk_begin(workgroup, invocation.lane, params.reduce_splits, params.reduce_chunk);
    let channel = channel_statistics(walk.channel);
    var own = Sums(vec2<f32>(), vec2<f32>());
    while walk.value < walk.end {
        var count = 0u;
        var sum = 0.0;
        var sum_of_products = 0.0;
        while count < BLOCK && walk.value < walk.end {
            let gradient = load_dy(walk.element);
            sum += gradient;
            sum_of_products += gradient * deviation(walk.element, channel);
            count++;
            walk_on(&walk);
        }
        own = Sums(add_to_pair(own.dy, sum), add_to_pair(own.product, sum_of_products));
    }
    let merged = merge_lanes(own, invocation);
    if has_result(invocation) && walk.split < params.reduce_splits {
        partials[walk.split * params.channels + walk.channel] = merged;
    }
}
