// uses: entry, lanes, data/params, data/per_channel, data/vector, numerics/float_float, iterate/resident
// uses: iterate/traversal, tensors/x, tensors/y, epilogue/activation, epilogue/residual, forward/finish_channel
// uses: forward/moments, forward/scale_shift

// The whole forward pass in training in one dispatch that reads x once: each workgroup keeps all values of its channels
// in registers. Load, reduce, normalise, store. (cuDNN calls its like "persistent".)

const LOAD: u32 = 0u;
const SUM: u32 = 1u;
const SQUARE: u32 = 2u;
const STORE: u32 = 3u;

var<private> tile: array<Vector, TILE_LOADS>;
// Sums over the invocation's values: of deviations from the first of them, and of squared ones from their mean.
var<private> pivot: PerChannel;
var<private> sum: Vector;
var<private> mean: FloatFloat;
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
    for_each_load(STORE, begin);
}

// The moments of the invocation's own values.
fn load_and_reduce(begin: Cursor) -> Moments {
    for_each_load(LOAD, begin);
    pivot = finite_or_zero(first_component(tile[0]));
    for_each_load(SUM, begin);
    let count = begin.loads * VALUES_OF_CHANNEL;
    mean = two_sum(pivot, horizontal_sum(sum) / f32(max(count, 1u)));
    for_each_load(SQUARE, begin);
    return Moments(count, mean, horizontal_sum(sum_of_squares));
}

fn load(k: u32, element: u32) {
    tile[k] = load_x(element);
}

fn add(stage: u32, k: u32, is_there: bool) {
    if stage == SUM {
        sum += select(Vector(), tile[k] - pivot, is_there);
    } else {
        let deviation = opaque_vector(tile[k] - mean.hi) - mean.lo;
        sum_of_squares += select(Vector(), deviation * deviation, is_there);
    }
}

fn store(k: u32, element: u32, z: Vector) {
    store_y(element, activated(with_residual(apply(tile[k], scale_shift), z)));
}
