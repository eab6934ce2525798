// uses: entry, lanes, data/params, data/per_channel, data/vector, numerics/float_float, iterate/resident
// uses: iterate/traversal, tensors/dx, tensors/dy, tensors/dresidual, tensors/x, statistics/source, statistics/type
// uses: epilogue/pre_activation, epilogue/residual, backward/deviation, backward/finish_channel
// uses: backward/input_gradient, backward/projection_of, backward/sums

// The whole backward pass through batch statistics in one dispatch that reads x and dy once: each workgroup keeps all
// values of its channels in registers. Load, reduce, store. (cuDNN calls its like "persistent".)

const LOAD: u32 = 0u;
const SUM: u32 = 1u;
const STORE: u32 = 2u;

// dy, from SUM on the gradient behind the activation; and x, from SUM on less its mean. The residual is needed for SUM
// only.
var<private> tile_dy: array<Vector, TILE_VECTORS>;
var<private> tile_deviation: array<Vector, TILE_VECTORS>;
var<private> tile_residual: array<Vector, TILE_VECTORS>;
var<private> of_channel: Statistics;
var<private> pre_activation: PreActivation;
var<private> sum: Vector;
var<private> sum_of_products: Vector;
var<private> gradient: Gradient;

fn kernel(invocation: Invocation) {
    let begin = cursor_begin(invocation.workgroup, invocation.lane, params.reduction);
    let channel = channel_of(begin, 0u);
    of_channel = channel_statistics(channel, invocation, false);
    pre_activation = pre_activation_of(channel, of_channel);
    for_each_vector(LOAD, begin);
    for_each_vector(SUM, begin);
    let zero = PerChannel(0.0);
    let own = Sums(FloatFloat(horizontal_sum(sum), zero), FloatFloat(horizontal_sum(sum_of_products), zero));
    let merged = broadcast(reduce_lanes(own, invocation), invocation);
    if is_leader(invocation) && split_of(begin, 0u) < params.reduction.count {
        finish_channel(channel, merged, of_channel);
    }
    gradient = gradient_of(channel, of_channel, projection_of(merged, of_channel));
    for_each_vector(STORE, begin);
}

fn load(k: u32, place: Place) {
    tile_deviation[k] = load_x(place.element, place.is_second);
    tile_dy[k] = load_dy(place.element, place.is_second);
    tile_residual[k] = load_residual(place.element, place.is_second);
}

fn add(stage: u32, k: u32, is_there: bool) {
    let x = tile_deviation[k];
    let dy = through_pre_activation(tile_dy[k], x, tile_residual[k], pre_activation);
    let deviation = deviation_of(x, of_channel);
    tile_dy[k] = dy;
    tile_deviation[k] = deviation;
    let scaled = dy * params.sum_scale;
    sum += select(Vector(), scaled, is_there);
    sum_of_products += select(Vector(), scaled * deviation, is_there);
}

fn store(k: u32, element: u32, residual: Vector, second_residual: Vector) {
    store_dresidual(element, tile_dy[k], tile_dy[second_of(k)]);
    store_dx(element, dx_of(k), dx_of(second_of(k)));
}

fn dx_of(k: u32) -> Vector {
    return input_gradient(tile_dy[k], tile_deviation[k], gradient);
}
