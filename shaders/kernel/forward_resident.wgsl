// uses: entry, lanes, data/params, data/per_channel, data/vector, numerics/float_float, iterate/resident
// uses: iterate/traversal, tensors/x, tensors/y, epilogue/activation, epilogue/residual, forward/finish_channel
// uses: forward/moments, forward/scale_shift

// The whole forward pass in training in one dispatch that reads x once: each workgroup keeps all values of its channels
// in registers. Load, reduce, normalise, store. (cuDNN calls its like "persistent".)

const LOAD: u32 = 0u;
const SUM: u32 = 1u;
const SQUARE: u32 = 2u;
const STORE: u32 = 3u;

var<private> tile: array<Vector, TILE_VECTORS>;
// A factor for the values, 1 or PER_LARGE. Sums over them: of deviations from the first, and of deviations from their
// mean and the squares of these.
var<private> scale: PerChannel;
var<private> pivot: PerChannel;
var<private> sum: Vector;
var<private> mean: FloatFloat;
var<private> rest: Vector;
var<private> sum_of_squares: Vector;
var<private> scale_shift: ScaleShift;

fn kernel(invocation: Invocation) {
    let begin = cursor_begin(invocation.workgroup, invocation.lane, params.reduction);
    let channel = channel_of(begin, 0u);
    let merged = broadcast(reduce_lanes(load_and_reduce(begin), invocation), invocation);
    if is_leader(invocation) && split_of(begin, 0u) < params.reduction.count {
        finish_channel(channel, merged);
    }
    scale_shift = scale_shift_of(channel, batch_statistics(merged));
    for_each_vector(STORE, begin);
}

// The moments of the invocation's own values.
fn load_and_reduce(begin: Cursor) -> Moments {
    for_each_vector(LOAD, begin);
    let count = begin.loads * VECTORS_PER_LOAD * VALUES_OF_CHANNEL;
    var own: Moments;
    scale = PerChannel(1.0);
    for (var is_second_try = false; ; is_second_try = true) {
        pivot = finite_or_zero(first_component(tile[0])) * scale;
        sum = Vector();
        for_each_vector(SUM, begin);
        mean = two_sum(pivot, horizontal_sum(sum) / f32(max(count, 1u)));
        rest = Vector();
        sum_of_squares = Vector();
        for_each_vector(SQUARE, begin);
        // What rounding took from the mean, if the first value is far from the others, is in the rest. From infinity,
        // nothing was taken.
        let left = select(PerChannel(0.0), horizontal_sum(rest), finite(mean.hi));
        own = moments_around(mean, scale, max(count, 1u), left, horizontal_sum(sum_of_squares));
        let is_beyond = !(finite(own.mean.hi) & finite(own.m2));
        if is_second_try || !any(is_beyond) {
            break;
        }
        scale = select(scale, PerChannel(PER_LARGE), is_beyond);
    }
    own.count = count;
    return own;
}

fn load(k: u32, place: Place) {
    tile[k] = load_x(place.element, place.is_second);
}

fn add(stage: u32, k: u32, is_there: bool) {
    if stage == SUM {
        sum += select(Vector(), tile[k] * scale - pivot, is_there);
    } else {
        let deviation = opaque_vector(tile[k] * scale - mean.hi) - mean.lo;
        rest += select(Vector(), deviation, is_there);
        sum_of_squares += select(Vector(), deviation * deviation, is_there);
    }
}

fn store(k: u32, element: u32, residual: Vector, second_residual: Vector) {
    store_y(element, output_of(k, residual), output_of(second_of(k), second_residual));
}

fn output_of(k: u32, residual: Vector) -> Vector {
    return activated(with_residual(apply(tile[k], scale_shift), residual));
}
