// uses: entry, lanes, data/params, data/per_channel, data/vector, numerics/float_float, iterate/resident
// uses: iterate/tile, tensors/dx, tensors/dy, tensors/dz, tensors/x, statistics/source, statistics/type
// uses: epilogue/pre_activation, backward/deviation, backward/finish_channel, backward/input_gradient
// uses: backward/projection_of, backward/sums

// The whole backward pass through batch statistics, for channels whose values the invocations of a workgroup
// hold: x and dy are read once.

const LOAD: u32 = 0u;
const STORE: u32 = 1u;

var<private> held_dy: array<Value, HELD>;
// How far x lies from its mean.
var<private> held_away: array<Value, HELD>;
var<private> of_channel: Statistics;
var<private> gate: Gate;
var<private> sum: Value;
var<private> sum_of_products: Value;
var<private> gradient: Gradient;

fn kernel(invocation: Invocation) {
    let begin = place_begin(invocation.workgroup, invocation.lane);
    of_channel = channel_statistics(begin.channel);
    gate = gate_of(begin.channel, of_channel);
    visit_all(LOAD, begin);
    let own = Sums(Pair(total(sum), Number(0.0)), Pair(total(sum_of_products), Number(0.0)));
    let merged = share_lanes(merge_lanes(own, invocation), invocation);
    if has_result(invocation) && begin.channel < params.channels {
        conclude(begin.channel, merged, of_channel);
    }
    gradient = gradient_of(begin.channel, of_channel, projection_of(merged, of_channel));
    visit_all(STORE, begin);
}

fn visit(stage: u32, k: u32) {
    if stage == LOAD {
        let x = load_x(place.element);
        let dy = upstream(load_dy(place.element), x, place.element, gate);
        let away = deviation(x, of_channel);
        store_dz(place.element, dy);
        held_dy[k] = dy;
        held_away[k] = away;
        sum += dy;
        sum_of_products += dy * away;
    } else {
        store_dx(place.element, input_gradient(held_dy[k], held_away[k], gradient));
    }
}
