// uses: data/per_channel, data/vector, numerics/float_float, iterate/traversal, tensors/x, forward/moments

// Reduces the elements that an invocation visits to moments of each of its columns.

// Plain sums run over blocks of so many times four loads, so that their rounding errors stay small. The first block is
// short, since its pivot is a guess.
const FIRST_BLOCK: u32 = 2u;
const BLOCK: u32 = 16u;

// The squares around a pivot may be so many times those around the mean.
const MOST_CANCELLATION: f32 = 16.0;

fn reduce_moments(begin: Cursor) -> array<Moments, COLUMNS_PER_LANE> {
    var cursor = begin;
    var own: array<Moments, COLUMNS_PER_LANE>;
    var pivot: array<PerChannel, COLUMNS_PER_LANE>;
    var scale: array<PerChannel, COLUMNS_PER_LANE>;
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        scale[k] = PerChannel(1.0);
    }
    var length = FIRST_BLOCK;
    var is_second_try = false;
    while cursor.loads > 0u {
        // Sums over the block. Deviations from a pivot near the mean are small, and so are the rounding errors of their
        // sums.
        let block = cursor;
        var count = 0u;
        var sum: array<Vector, COLUMNS_PER_LANE>;
        var sum_of_squares: array<Vector, COLUMNS_PER_LANE>;
        for (var fours = 0u; fours < length && cursor.loads > 0u; fours++) {
            let is_first = own[0].count + count == 0u && !is_second_try;
            // All loads come before the first use.
            let at = next_places(&cursor);
            for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                let x_a = load_x(column(cursor, at.a, k).element, at.a.is_second);
                let x_b = load_x(column(cursor, at.b, k).element, at.b.is_second);
                let x_c = load_x(column(cursor, at.c, k).element, at.c.is_second);
                let x_d = load_x(column(cursor, at.d, k).element, at.d.is_second);
                // The first pivot is one of four values, and neither the least nor the largest of them.
                let least = min(first_inside(x_a, at.a), first_inside(x_b, at.b));
                let guess = finite_or_zero(max(least, min(first_inside(x_c, at.c), first_inside(x_d, at.d))));
                pivot[k] = select(pivot[k], guess, is_first);
                let origin = pivot[k] * scale[k];
                let from_a = inside_or_zero(x_a * scale[k] - origin, at.a);
                let from_b = inside_or_zero(x_b * scale[k] - origin, at.b);
                let from_c = inside_or_zero(x_c * scale[k] - origin, at.c);
                let from_d = inside_or_zero(x_d * scale[k] - origin, at.d);
                sum[k] += (from_a + from_b) + (from_c + from_d);
                sum_of_squares[k] += (from_a * from_a + from_b * from_b) + (from_c * from_c + from_d * from_d);
            }
            count += (values_inside(at.a) + values_inside(at.b)) + (values_inside(at.c) + values_inside(at.d));
        }
        // A pivot that one value has spoiled is far from the others, and squares of large values leave f32. The block
        // is then summed once more, around its own mean.
        var found: array<Moments, COLUMNS_PER_LANE>;
        var is_bad = false;
        for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
            let total = horizontal_sum(sum[k]);
            let squares = horizontal_sum(sum_of_squares[k]);
            let around = FloatFloat(pivot[k] * scale[k], PerChannel(0.0));
            found[k] = moments_around(around, scale[k], count, total, squares);
            let is_beyond = !(finite(found[k].mean.hi) & finite(found[k].m2));
            let is_far = total * (total / f32(count)) > without_mark(found[k].m2) * MOST_CANCELLATION;
            if count > 0u {
                is_bad |= !is_second_try && any(is_beyond | is_far);
                scale[k] = select(scale[k], PerChannel(PER_LARGE), is_beyond);
                pivot[k] = finite_or_zero(found[k].mean.hi);
            }
        }
        if is_bad {
            cursor = block;
        } else {
            for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                own[k] = merge(own[k], found[k]);
            }
            length = BLOCK;
        }
        is_second_try = is_bad;
    }
    return own;
}
