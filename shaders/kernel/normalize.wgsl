// uses: entry, data/params, iterate/traversal, tensors/x, tensors/y, statistics/source, epilogue/activation
// uses: epilogue/residual, forward/scale_shift

// Normalises every element, then scales and shifts it.

fn kernel(invocation: Invocation) {
    var walk = walk_begin(invocation.workgroup, invocation.lane, params.map);
    var own: array<Normal, ABREAST>;
    for (var k = 0u; k < ABREAST; k++) {
        let channel = walk_channel(walk, k);
        own[k] = normal_of(channel, channel_statistics(channel));
    }
    // Where a load may reach into the next channel's plane, that one is normalised, too.
    var next = own[0];
    if RAGGED {
        let channel = next_channel(walk_channel(walk, 0u));
        next = normal_of(channel, channel_statistics(channel));
    }
    while walk_goes_on(walk) {
        let run = walk_own_run(&walk);
        for (var element = run.begin; element < run.end; element += run.step) {
            for (var k = 0u; k < ABREAST; k++) {
                if has_beside(walk, k) {
                    let value = load_x(beside(element, k));
                    let inside = inside_or(normalized(value, next), normalized(value, own[k]), run, element);
                    store_y(beside(element, k), activated(with_residual(inside, beside(element, k))));
                }
            }
        }
    }
}
