// uses: data/vector, numerics/float_float, iterate/traversal, tensors/dy, tensors/x, statistics/type
// uses: epilogue/pre_activation, backward/deviation, backward/sums

// Reduces the elements that an invocation visits to the sums of dy, behind the activation, and of dy * (x - mean), of
// each of its columns.

// Plain sums run over blocks of about so many loads, so that their rounding errors stay small.
const BLOCK: u32 = 64u;

fn reduce_sums(
    first_traversal: Traversal,
    channels: array<Statistics, COLUMNS_PER_LANE>,
    pre_activations: array<PreActivation, COLUMNS_PER_LANE>,
) -> array<Sums, COLUMNS_PER_LANE> {
    var traversal = first_traversal;
    var of_channel = channels;
    var pre_activation = pre_activations;
    var own: array<Sums, COLUMNS_PER_LANE>;
    // Sums over the present block.
    var loads = 0u;
    var sum: array<Vector, COLUMNS_PER_LANE>;
    var sum_of_products: array<Vector, COLUMNS_PER_LANE>;
    while has_next(traversal) {
        let range = next_range(&traversal);
        var element = range.begin;
        while element < range.end {
            let stop = block_end(range, element, BLOCK);
            for (; element < stop; element += range.step) {
                for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                    let x = load_x(column(element, k));
                    let dy = load_dy(column(element, k));
                    let gradient = through_pre_activation(dy, x, column(element, k), pre_activation[k]);
                    let product = gradient * deviation_of(x, of_channel[k]);
                    sum[k] += select_inside_or_zero(gradient, range, element);
                    sum_of_products[k] += select_inside_or_zero(product, range, element);
                }
                loads++;
            }
            if loads >= BLOCK {
                for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
                    own[k] = add_block(own[k], sum[k], sum_of_products[k]);
                    sum[k] = Vector(0.0);
                    sum_of_products[k] = Vector(0.0);
                }
                loads = 0u;
            }
        }
    }
    for (var k = 0u; k < COLUMNS_PER_LANE; k++) {
        own[k] = add_block(own[k], sum[k], sum_of_products[k]);
    }
    return own;
}

fn add_block(sums: Sums, dy: Vector, product: Vector) -> Sums {
    return Sums(add_to_pair(sums.dy, horizontal_sum(dy)), add_to_pair(sums.product, horizontal_sum(product)));
}
