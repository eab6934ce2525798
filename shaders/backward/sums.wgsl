// uses: data/per_channel, numerics/float_float

// The two sums of the backward pass over a set of values: of dy, and of dy times the deviation of x from its mean in
// units of the channel. Each is float-float, so that a million terms sum as well as a few. Both are multiplied by
// params.sum_scale, so that finite terms have finite sums.
struct Sums {
    dy: FloatFloat,
    product: FloatFloat,
}

// What a workgroup merges across its lanes.
alias Partial = Sums;

// The sums of the k-th channel, in four words.
fn pack(value: Partial, k: u32) -> vec4<u32> {
    return bitcast<vec4<u32>>(vec4<f32>(
        component(value.dy.hi, k),
        component(value.dy.lo, k),
        component(value.product.hi, k),
        component(value.product.lo, k),
    ));
}

fn unpack(words: vec4<u32>) -> Partial {
    let parts = bitcast<vec4<f32>>(words);
    return Sums(
        FloatFloat(PerChannel(parts.x), PerChannel(parts.y)),
        FloatFloat(PerChannel(parts.z), PerChannel(parts.w)),
    );
}

fn with_channel(value: Partial, k: u32, channel: Partial) -> Partial {
    return Sums(
        FloatFloat(
            with_component(value.dy.hi, k, component(channel.dy.hi, 0u)),
            with_component(value.dy.lo, k, component(channel.dy.lo, 0u)),
        ),
        FloatFloat(
            with_component(value.product.hi, k, component(channel.product.hi, 0u)),
            with_component(value.product.lo, k, component(channel.product.lo, 0u)),
        ),
    );
}

fn merge(a: Sums, b: Sums) -> Sums {
    return Sums(add_pairs(a.dy, b.dy), add_pairs(a.product, b.product));
}
