// uses: data/per_channel, data/vector, iterate/traversal, tensors/x, forward/moments

// Reduces the elements that an invocation visits to moments of each of its columns.

// Plain sums run over blocks of so many times four loads, so that their rounding errors stay small. The first block is
// short: its pivot is its first value.
const FIRST_BLOCK: u32 = 2u;
const BLOCK: u32 = 16u;

fn reduce_moments(begin: Cursor) -> array<Moments, COLUMNS_PER_LANE> {
    var cursor = begin;
    var own: array<Moments, COLUMNS_PER_LANE>;
    var pivot: array<PerChannel, COLUMNS_PER_LANE>;
    var length = FIRST_BLOCK;
    while has_next(cursor) {
        // Sums over the block. Deviations from a pivot near the mean are small, and so are the rounding errors of their
        // sums.
        var count = 0u;
        var sum: array<Vector, COLUMNS_PER_LANE>;
        var sum_of_squares: array<Vector, COLUMNS_PER_LANE>;
        for (var fours = 0u; fours < length && has_next(cursor); fours++) {
            // Four loads come before the first use.
            let is_first = own[0].count + count == 0u;
            let a = next_place(&cursor);
            let b = next_place(&cursor);
            let c = next_place(&cursor);
            let d = next_place(&cursor);
            for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                let x_a = load_x(column(cursor, a, k).element);
                let x_b = load_x(column(cursor, b, k).element);
                let x_c = load_x(column(cursor, c, k).element);
                let x_d = load_x(column(cursor, d, k).element);
                let first = finite_or_zero(first_inside(x_a, a));
                pivot[k] = select(pivot[k], first, is_first);
                let from_a = inside_or_zero(x_a - pivot[k], a);
                let from_b = inside_or_zero(x_b - pivot[k], b);
                let from_c = inside_or_zero(x_c - pivot[k], c);
                let from_d = inside_or_zero(x_d - pivot[k], d);
                sum[k] += (from_a + from_b) + (from_c + from_d);
                sum_of_squares[k] += (from_a * from_a + from_b * from_b) + (from_c * from_c + from_d * from_d);
            }
            count += (values_inside(a) + values_inside(b)) + (values_inside(c) + values_inside(d));
        }
        for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
            own[k] = merge(own[k], block_moments(pivot[k], count, sum[k], sum_of_squares[k]));
            pivot[k] = finite_or_zero(own[k].mean.hi);
        }
        length = BLOCK;
    }
    return own;
}

fn block_moments(pivot: PerChannel, count: u32, sum: Vector, sum_of_squares: Vector) -> Moments {
    return moments_around(pivot, count, horizontal_sum(sum), horizontal_sum(sum_of_squares));
}
