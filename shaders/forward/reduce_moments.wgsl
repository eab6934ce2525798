// uses: data/per_channel, data/vector, iterate/traversal, tensors/x, forward/moments

// Reduces the elements that an invocation visits to moments of each of its columns.

// Plain sums run over blocks of about so many loads, so that their rounding errors stay small. The first block is
// short: its pivot is its first value.
const FIRST_BLOCK: u32 = 8u;
const BLOCK: u32 = 64u;

fn reduce_moments(first_traversal: Traversal) -> array<Moments, COLUMNS_PER_LANE> {
    var traversal = first_traversal;
    var own: array<Moments, COLUMNS_PER_LANE>;
    // Sums over the present block. Deviations from a pivot near the mean are small, and so are the rounding
    // errors of their sums.
    var count = 0u;
    var sum: array<Vector, COLUMNS_PER_LANE>;
    var sum_of_squares: array<Vector, COLUMNS_PER_LANE>;
    var pivot: array<PerChannel, COLUMNS_PER_LANE>;
    var block = FIRST_BLOCK;
    while has_next(traversal) {
        let range = next_range(&traversal);
        if own[0].count + count == 0u && range.begin < range.end {
            for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                pivot[k] = finite_or_zero(first_inside(load_x(column(range.begin, k)), range, range.begin));
            }
        }
        var element = range.begin;
        while element < range.end {
            let stop = block_end(range, element, block);
            for (; element < stop; element += range.step) {
                for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                    let deviation = select_inside_or_zero(load_x(column(element, k)) - pivot[k], range, element);
                    sum[k] += deviation;
                    sum_of_squares[k] += deviation * deviation;
                }
                count += values_inside(range, element);
            }
            if count >= block * VALUES_OF_CHANNEL {
                for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                    own[k] = merge(own[k], block_moments(pivot[k], count, sum[k], sum_of_squares[k]));
                    pivot[k] = finite_or_zero(own[k].mean.hi);
                    sum[k] = Vector(0.0);
                    sum_of_squares[k] = Vector(0.0);
                }
                block = BLOCK;
                count = 0u;
            }
        }
    }
    if count > 0u {
        for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
            own[k] = merge(own[k], block_moments(pivot[k], count, sum[k], sum_of_squares[k]));
        }
    }
    return own;
}

fn block_moments(pivot: PerChannel, count: u32, sum: Vector, sum_of_squares: Vector) -> Moments {
    return moments_around(pivot, count, horizontal_sum(sum), horizontal_sum(sum_of_squares));
}
