// uses: entry, lanes, data/params, iterate/traversal, tensors/dx, tensors/dy, tensors/dz, tensors/x
// uses: statistics/source, statistics/type, epilogue/pre_activation, backward/deviation
// uses: backward/finish_channel, backward/input_gradient, backward/projection_of, backward/reduce_sums

// The whole backward pass through batch statistics, for channels that one workgroup (planes) or invocation
// (columns) reduces alone: what it has just read is still in the cache when it is read again.

fn kernel(invocation: Invocation) {
    var walk = walk_begin(invocation.workgroup, invocation.lane, params.reduce);
    var statistics: array<Statistics, ABREAST>;
    var gates: array<Gate, ABREAST>;
    for (var k = 0u; k < ABREAST; k++) {
        statistics[k] = channel_statistics(walk_channel(walk, k));
        gates[k] = gate_of(walk_channel(walk, k), statistics[k]);
    }
    var own = sums_of(walk, statistics, gates);
    var gradient: array<Gradient, ABREAST>;
    for (var k = 0u; k < ABREAST; k++) {
        let channel = walk_channel(walk, k);
        let merged = share_lanes(merge_lanes(own[k], invocation), invocation);
        if has_result(invocation) && walk_split(walk, k) < params.reduce.count {
            conclude(channel, merged, statistics[k]);
        }
        gradient[k] = gradient_of(channel, statistics[k], projection_of(merged, statistics[k]));
    }
    while walk_goes_on(walk) {
        let run = walk_own_run(&walk);
        for (var element = run.begin; element < run.end; element += run.step) {
            for (var k = 0u; k < ABREAST; k++) {
                if has_beside(walk, k) {
                    let x = load_x(beside(element, k));
                    let away = deviation(x, gradient[k].statistics);
                    let dy = upstream(load_dy(beside(element, k)), x, beside(element, k), gates[k]);
                    store_dz(beside(element, k), dy);
                    store_dx(beside(element, k), input_gradient(dy, away, gradient[k]));
                }
            }
        }
    }
}
