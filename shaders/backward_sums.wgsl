// Partial sums of dy and of dy * (x - mean) of every channel: each workgroup (planes) or invocation
// (columns) reduces one split of one channel and writes partials[split * channels + channel].

@group(0) @binding(9) var<storage, read_write> partials: array<Partial>;

// The plain sums run over blocks of so many loads, so that their rounding errors stay small.
const BLOCK: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn backward_sums(invocation: Invocation) {
    let workgroup = linear_workgroup(invocation.workgroup, invocation.grid);
    var walk = walk_begin(workgroup, invocation.lane, params.reduce);
    let channel = channel_statistics(walk.channel);
    var own = Sums(vec2<f32>(), vec2<f32>());
    var count = 0u;
    var sum = Value();
    var sum_of_products = Value();
    while walk_goes_on(walk) {
        let run = walk_run(&walk);
        var element = run.begin;
        while element < run.end {
            for (; element < run.end && count < BLOCK; element += run.step) {
                let gradient = load_dy(element);
                sum += gradient;
                sum_of_products += gradient * deviation(element, channel);
                count++;
            }
            if count == BLOCK {
                own = Sums(add_to_pair(own.dy, total(sum)), add_to_pair(own.product, total(sum_of_products)));
                count = 0u;
                sum = Value();
                sum_of_products = Value();
            }
        }
    }
    own = Sums(add_to_pair(own.dy, total(sum)), add_to_pair(own.product, total(sum_of_products)));
    let merged = merge_lanes(own, invocation);
    if has_result(invocation) && walk.split < params.reduce.count {
        partials[walk.split * params.channels + walk.channel] = merged;
    }
}
