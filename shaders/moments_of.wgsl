// Reduces what an invocation visits to moments.

// The plain sums run over blocks of about so many loads, so that their rounding errors stay small. The first
// block has no better pivot than its first value, and is short.
const FIRST_BLOCK: u32 = 8u;
const BLOCK: u32 = 64u;

fn moments_of(first_walk: Walk) -> Moments {
    var walk = first_walk;
    var own = Moments();
    // Sums over the present block. Deviations from a pivot near the mean are small, and so are the rounding
    // errors of their sums.
    var count = 0u;
    var sum = Value();
    var sum_of_squares = Value();
    var pivot = Number();
    var block = FIRST_BLOCK;
    while walk_goes_on(walk) {
        let run = walk_run(&walk);
        if own.count + count == 0u && run.begin < run.end {
            pivot = finite_or_zero(first_inside(load_x(run.begin), run, run.begin));
        }
        var element = run.begin;
        while element < run.end {
            let stop = run_stop(run, element, block);
            for (; element < stop; element += run.step) {
                let deviation = inside_or_zero(load_x(element) - pivot, run, element);
                sum += deviation;
                sum_of_squares += deviation * deviation;
                count += values_inside(run, element);
            }
            if count >= block * VALUES_OF_CHANNEL {
                own = merge(own, moments_around(pivot, count, total(sum), total(sum_of_squares)));
                pivot = finite_or_zero(own.mean.hi);
                block = BLOCK;
                count = 0u;
                sum = Value();
                sum_of_squares = Value();
            }
        }
    }
    if count > 0u {
        own = merge(own, moments_around(pivot, count, total(sum), total(sum_of_squares)));
    }
    return own;
}
