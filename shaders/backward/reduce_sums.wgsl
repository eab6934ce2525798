// uses: data/params, data/vector, numerics/float_float, iterate/traversal, statistics/type, epilogue/pre_activation
// uses: backward/deviation, backward/load_gradient, backward/sums
// needs: OfBeside, write_beside

// Reduces the elements that an invocation visits to the sums of dy, behind the activation, and of dy * (x - mean), of
// each of its columns. A case may do something besides with every load.

// Plain sums run over blocks of so many times four loads, so that their rounding errors stay small.
const BLOCK: u32 = 16u;

fn reduce_sums(
    begin: Cursor,
    channels: array<Statistics, COLUMNS_PER_LANE>,
    pre_activations: array<PreActivation, COLUMNS_PER_LANE>,
    besides: array<OfBeside, COLUMNS_PER_LANE>,
) -> array<Sums, COLUMNS_PER_LANE> {
    var cursor = begin;
    var of_channel = channels;
    var pre_activation = pre_activations;
    var of_columns = besides;
    var own: array<Sums, COLUMNS_PER_LANE>;
    while cursor.loads > 0u {
        var block: array<Terms, COLUMNS_PER_LANE>;
        for (var fours = 0u; fours < BLOCK && cursor.loads > 0u; fours++) {
            // All loads come before the first use.
            let at = next_places(&cursor);
            for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                let found_a = load_gradient(column(cursor, at.a, k));
                let found_b = load_gradient(column(cursor, at.b, k));
                let found_c = load_gradient(column(cursor, at.c, k));
                let found_d = load_gradient(column(cursor, at.d, k));
                let from_a = terms_of(found_a, of_channel[k], pre_activation[k]);
                let from_b = terms_of(found_b, of_channel[k], pre_activation[k]);
                let from_c = terms_of(found_c, of_channel[k], pre_activation[k]);
                let from_d = terms_of(found_d, of_channel[k], pre_activation[k]);
                block[k].dy += (from_a.dy + from_b.dy) + (from_c.dy + from_d.dy);
                block[k].product += (from_a.product + from_b.product) + (from_c.product + from_d.product);
                // The terms took all loads, so that no compiler moves a load behind these branches.
                write_beside(found_a, found_b, of_columns[k]);
                write_beside(found_c, found_d, of_columns[k]);
            }
        }
        for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
            own[k].dy = add_to_pair(own[k].dy, horizontal_sum(block[k].dy));
            own[k].product = add_to_pair(own[k].product, horizontal_sum(block[k].product));
        }
    }
    return own;
}

// What is summed.
struct Terms {
    dy: Vector,
    product: Vector,
}

fn terms_of(found: Gradients, of_channel: Statistics, pre_activation: PreActivation) -> Terms {
    let dy = through_pre_activation(found.dy, found.x, found.residual, pre_activation) * params.sum_scale;
    let product = dy * deviation_of(found.x, of_channel);
    return Terms(inside_or_zero(dy, found.place), inside_or_zero(product, found.place));
}

// case alone:
// Nothing.
alias OfBeside = u32;

fn of_beside(channel: u32, statistics: Statistics, pre_activation: PreActivation) -> OfBeside {
    return 0u;
}

fn write_beside(a: Gradients, b: Gradients, own: OfBeside) {}

// case with_gradients:
// uses: write_elements, backward/input_gradient, backward/projections
// dx and dresidual, where they need no sums: with running statistics, or without dx. Memory is read once. Not with
// masked loads, whose elements of the next channel would need its statistics, too, and more registers than GPUs have.
alias OfBeside = OfColumn;

fn of_beside(channel: u32, statistics: Statistics, pre_activation: PreActivation) -> OfBeside {
    return OfColumn(gradient_of(channel, statistics, Projection()), pre_activation);
}

fn write_beside(a: Gradients, b: Gradients, own: OfBeside) {
    write_two(a.place, output_of(a, own, own), b.place, output_of(b, own, own));
}
