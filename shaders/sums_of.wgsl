// Reduces what an invocation visits to the sums of dy and of dy * (x - mean).

// The plain sums run over blocks of about so many loads, so that their rounding errors stay small.
const BLOCK: u32 = 64u;

fn sums_of(first_walk: Walk, channel: Statistics) -> Sums {
    var walk = first_walk;
    var own = Sums();
    // Sums over the present block.
    var loads = 0u;
    var sum = Value();
    var sum_of_products = Value();
    while walk_goes_on(walk) {
        let run = walk_run(&walk);
        var element = run.begin;
        while element < run.end {
            let stop = run_stop(run, element, BLOCK);
            for (; element < stop; element += run.step) {
                let gradient = load_dy(element);
                sum += inside_or_zero(gradient, run, element);
                sum_of_products += inside_or_zero(gradient * deviation(load_x(element), channel), run, element);
                loads++;
            }
            if loads >= BLOCK {
                own = add_block(own, sum, sum_of_products);
                loads = 0u;
                sum = Value();
                sum_of_products = Value();
            }
        }
    }
    return add_block(own, sum, sum_of_products);
}

fn add_block(sums: Sums, dy: Value, product: Value) -> Sums {
    return Sums(add_to_pair(sums.dy, total(dy)), add_to_pair(sums.product, total(product)));
}
