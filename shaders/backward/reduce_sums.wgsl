// uses: data/vector, numerics/float_float, iterate/traversal, tensors/dy, tensors/x, statistics/type
// uses: epilogue/pre_activation, backward/deviation, backward/sums

// Reduces what an invocation visits to the sums of dy, as it arrives from upstream, and of dy * (x - mean): of every
// place abreast.

// The plain sums run over blocks of about so many loads, so that their rounding errors stay small.
const BLOCK: u32 = 64u;

fn sums_of(first_walk: Walk, channels: array<Statistics, ABREAST>, gates: array<Gate, ABREAST>) -> array<Sums, ABREAST> {
    var walk = first_walk;
    var of_channel = channels;
    var gate = gates;
    var own: array<Sums, ABREAST>;
    // Sums over the present block.
    var loads = 0u;
    var sum: array<Value, ABREAST>;
    var sum_of_products: array<Value, ABREAST>;
    while walk_goes_on(walk) {
        let run = walk_run(&walk);
        var element = run.begin;
        while element < run.end {
            let stop = run_stop(run, element, BLOCK);
            for (; element < stop; element += run.step) {
                for (var k = 0u; k < ABREAST; k++) {
                    let x = load_x(beside(element, k));
                    let dy = load_dy(beside(element, k));
                    let gradient = upstream(dy, x, beside(element, k), gate[k]);
                    let product = gradient * deviation(x, of_channel[k]);
                    sum[k] += inside_or_zero(gradient, run, element);
                    sum_of_products[k] += inside_or_zero(product, run, element);
                }
                loads++;
            }
            if loads >= BLOCK {
                for (var k = 0u; k < ABREAST; k++) {
                    own[k] = add_block(own[k], sum[k], sum_of_products[k]);
                    sum[k] = Value(0.0);
                    sum_of_products[k] = Value(0.0);
                }
                loads = 0u;
            }
        }
    }
    for (var k = 0u; k < ABREAST; k++) {
        own[k] = add_block(own[k], sum[k], sum_of_products[k]);
    }
    return own;
}

fn add_block(sums: Sums, dy: Value, product: Value) -> Sums {
    return Sums(add_to_pair(sums.dy, total(dy)), add_to_pair(sums.product, total(product)));
}
