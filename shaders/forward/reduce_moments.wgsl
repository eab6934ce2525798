// uses: data/per_channel, data/vector, iterate/traversal, tensors/x, forward/moments

// Reduces what an invocation visits to moments: of every place abreast.

// The plain sums run over blocks of about so many loads, so that their rounding errors stay small. The first
// block has no better pivot than its first value, and is short.
const FIRST_BLOCK: u32 = 8u;
const BLOCK: u32 = 64u;

fn moments_of(first_walk: Walk) -> array<Moments, ABREAST> {
    var walk = first_walk;
    var own: array<Moments, ABREAST>;
    // Sums over the present block. Deviations from a pivot near the mean are small, and so are the rounding
    // errors of their sums.
    var count = 0u;
    var sum: array<Value, ABREAST>;
    var sum_of_squares: array<Value, ABREAST>;
    var pivot: array<Number, ABREAST>;
    var block = FIRST_BLOCK;
    while walk_goes_on(walk) {
        let run = walk_run(&walk);
        if own[0].count + count == 0u && run.begin < run.end {
            for (var k = 0u; k < ABREAST; k++) {
                pivot[k] = finite_or_zero(first_inside(load_x(beside(run.begin, k)), run, run.begin));
            }
        }
        var element = run.begin;
        while element < run.end {
            let stop = run_stop(run, element, block);
            for (; element < stop; element += run.step) {
                for (var k = 0u; k < ABREAST; k++) {
                    let deviation = inside_or_zero(load_x(beside(element, k)) - pivot[k], run, element);
                    sum[k] += deviation;
                    sum_of_squares[k] += deviation * deviation;
                }
                count += values_inside(run, element);
            }
            if count >= block * VALUES_OF_CHANNEL {
                for (var k = 0u; k < ABREAST; k++) {
                    let added = moments_around(pivot[k], count, total(sum[k]), total(sum_of_squares[k]));
                    own[k] = merge(own[k], added);
                    pivot[k] = finite_or_zero(own[k].mean.hi);
                    sum[k] = Value(0.0);
                    sum_of_squares[k] = Value(0.0);
                }
                block = BLOCK;
                count = 0u;
            }
        }
    }
    if count > 0u {
        for (var k = 0u; k < ABREAST; k++) {
            own[k] = merge(own[k], moments_around(pivot[k], count, total(sum[k]), total(sum_of_squares[k])));
        }
    }
    return own;
}
