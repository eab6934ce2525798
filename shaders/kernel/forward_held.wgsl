// uses: entry, lanes, data/params, data/per_channel, data/vector, numerics/float_float, iterate/resident
// uses: iterate/tile, tensors/x, tensors/y, epilogue/activation, epilogue/residual, forward/finish_channel
// uses: forward/moments, forward/scale_shift

// The whole forward pass in training, for channels whose values the invocations of a workgroup hold: x is read
// once.

const LOAD: u32 = 0u;
const SQUARE: u32 = 1u;
const STORE: u32 = 2u;

var<private> held: array<Value, HELD>;
// Sums over the invocation's values: of deviations from the first of them, and of squared ones from their mean.
var<private> pivot: Number;
var<private> sum: Value;
var<private> mean: Pair;
var<private> sum_of_squares: Value;
var<private> normal: Normal;

fn kernel(invocation: Invocation) {
    let begin = place_begin(invocation.workgroup, invocation.lane);
    let merged = share_lanes(merge_lanes(load_and_reduce(begin), invocation), invocation);
    if has_result(invocation) && begin.channel < params.channels {
        conclude(begin.channel, merged);
    }
    normal = normal_of(begin.channel, batch_statistics(merged));
    visit_all(STORE, begin);
}

// The moments of the invocation's own values.
fn load_and_reduce(begin: Place) -> Moments {
    visit_all(LOAD, begin);
    let count = begin.loads * VALUES_OF_CHANNEL;
    mean = two_sum(pivot, total(sum) / f32(max(count, 1u)));
    visit_all(SQUARE, begin);
    return Moments(count, mean, total(sum_of_squares));
}

fn visit(stage: u32, k: u32) {
    if stage == LOAD {
        let value = load_x(place.element);
        held[k] = value;
        if k == 0u {
            pivot = finite_or_zero(first(value));
        }
        sum += value - pivot;
    } else if stage == SQUARE {
        let deviation = rounded_value(held[k] - mean.hi) - mean.lo;
        sum_of_squares += deviation * deviation;
    } else {
        let y = normalized(held[k], normal);
        store_y(place.element, activated(with_residual(y, place.element)));
    }
}
