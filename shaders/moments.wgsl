// Partial moments of every channel: each workgroup (planes) or invocation (columns) reduces one split of
// one channel and writes partials[split * channels + channel].

@group(0) @binding(9) var<storage, read_write> partials: array<Partial>;

// The plain sums run over blocks of at most so many loads, so that their rounding errors stay small.
const LARGEST_BLOCK: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn moments(invocation: Invocation) {
    let workgroup = linear_workgroup(invocation.workgroup, invocation.grid);
    var walk = walk_begin(workgroup, invocation.lane, params.reduce);
    var own = Moments(0u, 0.0, 0.0, 0.0);
    // Sums over the present block of loads. Deviations from a pivot near the mean are small, and so are the
    // rounding errors of their sums. The first value is a pivot for itself alone; the mean of k values is
    // good for the next k.
    var block = 1u;
    var count = 0u;
    var sum = Value();
    var sum_of_squares = Value();
    var pivot = 0.0;
    while walk_goes_on(walk) {
        let run = walk_run(&walk);
        if own.count + count == 0u && run.begin < run.end {
            pivot = finite_or_zero(first(load_x(run.begin)));
        }
        var element = run.begin;
        while element < run.end {
            for (; element < run.end && count < block; element += run.step) {
                let deviation = load_x(element) - pivot;
                sum += deviation;
                sum_of_squares += deviation * deviation;
                count++;
            }
            if count == block {
                own = merge(own, moments_around(pivot, count * WIDTH, total(sum), total(sum_of_squares)));
                pivot = finite_or_zero(own.mean_hi);
                block = min(own.count / WIDTH, LARGEST_BLOCK);
                count = 0u;
                sum = Value();
                sum_of_squares = Value();
            }
        }
    }
    if count > 0u {
        own = merge(own, moments_around(pivot, count * WIDTH, total(sum), total(sum_of_squares)));
    }
    let merged = merge_lanes(own, invocation);
    if has_result(invocation) && walk.split < params.reduce.count {
        partials[walk.split * params.channels + walk.channel] = merged;
    }
}

// With infinity for a pivot, every deviation would be NaN.
fn finite_or_zero(value: f32) -> f32 {
    return select(0.0, value, is_finite(value));
}
