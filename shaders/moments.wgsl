// Partial moments of every channel: each workgroup (planes) or invocation (columns) reduces one split of
// one channel and writes partials[split * channels + channel].

@group(0) @binding(9) var<storage, read_write> partials: array<Partial>;

// The plain sums run over blocks of at most so many values, so that their rounding errors stay small.
const LARGEST_BLOCK: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn moments(invocation: Invocation) {
    let workgroup = linear_workgroup(invocation.workgroup, invocation.grid);
    var walk = walk_begin(workgroup, invocation.lane, params.reduce_splits, params.reduce_chunk);
    var own = Moments(0u, 0.0, 0.0, 0.0);
    while walk.value < walk.end {
        // Deviations from a pivot near the mean are small, and so are the rounding errors of their sums.
        // The first value is a pivot for itself alone, the mean of k values is good for the next k. With
        // infinity for a pivot, every deviation would be NaN.
        let block = clamp(own.count, 1u, LARGEST_BLOCK);
        var pivot = own.mean_hi;
        if own.count == 0u {
            pivot = load_x(walk.element);
        }
        pivot = select(0.0, pivot, is_finite(pivot));
        var count = 0u;
        var sum = 0.0;
        var sum_of_squares = 0.0;
        while count < block && walk.value < walk.end {
            let deviation = load_x(walk.element) - pivot;
            sum += deviation;
            sum_of_squares += deviation * deviation;
            count++;
            walk_on(&walk);
        }
        own = merge(own, moments_around(pivot, count, sum, sum_of_squares));
    }
    let merged = merge_lanes(own, invocation);
    if has_result(invocation) && walk.split < params.reduce_splits {
        partials[walk.split * params.channels + walk.channel] = merged;
    }
}
