// uses: entry, data/params, iterate/traversal, tensors/dx, tensors/dy, tensors/dz, tensors/x
// uses: statistics/source, epilogue/pre_activation, backward/deviation, backward/input_gradient
// uses: backward/projections

// dx = weight * inv_std * (dy - what the mean and the variance of the batch take away), for every element, where dy
// is the gradient as it arrives from upstream: that is dz.

fn kernel(invocation: Invocation) {
    var walk = walk_begin(invocation.workgroup, invocation.lane, params.map);
    var own: array<Gradient, ABREAST>;
    var gate: array<Gate, ABREAST>;
    for (var k = 0u; k < ABREAST; k++) {
        let channel = walk_channel(walk, k);
        let statistics = channel_statistics(channel);
        own[k] = gradient_of(channel, statistics, channel_projection(channel));
        gate[k] = gate_of(channel, statistics);
    }
    // Where a load may reach into the next channel's plane, that one's gradient is computed, too.
    var next = own[0];
    var next_gate = gate[0];
    if RAGGED {
        let after = next_channel(walk_channel(walk, 0u));
        let statistics = channel_statistics(after);
        next = gradient_of(after, statistics, channel_projection(after));
        next_gate = gate_of(after, statistics);
    }
    while walk_goes_on(walk) {
        let run = walk_own_run(&walk);
        for (var element = run.begin; element < run.end; element += run.step) {
            for (var k = 0u; k < ABREAST; k++) {
                if has_beside(walk, k) {
                    let x = load_x(beside(element, k));
                    let loaded_dy = load_dy(beside(element, k));
                    var dy = upstream(loaded_dy, x, beside(element, k), gate[k]);
                    var of_x = input_gradient(dy, deviation(x, own[k].statistics), own[k]);
                    if RAGGED {
                        let away = deviation(x, next.statistics);
                        let next_dy = upstream(loaded_dy, x, element, next_gate);
                        of_x = inside_or(input_gradient(next_dy, away, next), of_x, run, element);
                        dy = inside_or(next_dy, dy, run, element);
                    }
                    store_dz(beside(element, k), dy);
                    store_dx(beside(element, k), of_x);
                }
            }
        }
    }
}
