// uses: data/params, data/vector, numerics/float_float, iterate/traversal, statistics/type, epilogue/pre_activation
// uses: backward/deviation, backward/load_gradient, backward/sums
// needs: OfBeside, beside, store_beside

// Reduces the elements that an invocation visits to the sums of dy, behind the activation, and of dy * (x - mean), of
// each of its columns. What a case does besides with every load (Beside) takes `own` of the column, and `next` of the
// next channel, into whose plane a masked load may reach.

// Plain sums run over blocks of so many times four loads, so that their rounding errors stay small.
const BLOCK: u32 = 16u;

fn reduce_sums(
    begin: Cursor,
    channels: array<Statistics, COLUMNS_PER_LANE>,
    pre_activations: array<PreActivation, COLUMNS_PER_LANE>,
    besides: array<OfBeside, COLUMNS_PER_LANE>,
    next: OfBeside,
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
                let beside_a = beside(found_a, of_columns[k], next);
                let beside_b = beside(found_b, of_columns[k], next);
                let beside_c = beside(found_c, of_columns[k], next);
                let beside_d = beside(found_d, of_columns[k], next);
                block[k].dy += (from_a.dy + from_b.dy) + (from_c.dy + from_d.dy);
                block[k].product += (from_a.product + from_b.product) + (from_c.product + from_d.product);
                store_beside(found_a.place, beside_a);
                store_beside(found_b.place, beside_b);
                store_beside(found_c.place, beside_c);
                store_beside(found_d.place, beside_d);
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
    let dy = through_pre_activation(found.dy, found.x, found.z, pre_activation) * params.sum_scale;
    let product = dy * deviation_of(found.x, of_channel);
    return Terms(inside_or_zero(dy, found.place), inside_or_zero(product, found.place));
}

// case alone:
// uses: entry
// Nothing.
alias OfBeside = u32;
alias Beside = u32;

fn of_beside(channel: u32, statistics: Statistics, pre_activation: PreActivation) -> OfBeside {
    return 0u;
}

fn next_of_beside(cursor: Cursor, invocation: Invocation) -> OfBeside {
    return 0u;
}

fn beside(found: Gradients, own: OfBeside, next: OfBeside) -> Beside {
    return 0u;
}

fn store_beside(place: Place, found: Beside) {}

// case with_gradients:
// uses: entry, write_elements, statistics/source, backward/input_gradient, backward/projections
// dx and dz, where they need no sums: with running statistics, or without dx. Memory is read once.
alias OfBeside = OfColumn;
alias Beside = Output;

fn of_beside(channel: u32, statistics: Statistics, pre_activation: PreActivation) -> OfBeside {
    return OfColumn(gradient_of(channel, statistics, Projection()), pre_activation);
}

fn next_of_beside(cursor: Cursor, invocation: Invocation) -> OfBeside {
    let channel = next_channel(channel_of(cursor, 0u));
    let statistics = channel_statistics(channel, invocation, false);
    return of_beside(channel, statistics, pre_activation_of(channel, statistics));
}

fn beside(found: Gradients, own: OfBeside, next: OfBeside) -> Beside {
    return output_of(found, own, next);
}

fn store_beside(place: Place, found: Beside) {
    write_load(place, found);
}
