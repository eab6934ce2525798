// The two sums of the backward pass over a set of values: of dy, and of dy times the deviation of x from
// its mean. Each is an unevaluated pair, so that a million terms sum as well as a few.
struct Sums {
    dy: vec2<f32>,
    product: vec2<f32>,
}

// What a workgroup merges across its lanes.
alias Partial = Sums;

fn pack(value: Partial) -> vec4<u32> {
    return bitcast<vec4<u32>>(vec4<f32>(value.dy, value.product));
}

fn unpack(words: vec4<u32>) -> Partial {
    let parts = bitcast<vec4<f32>>(words);
    return Sums(parts.xy, parts.zw);
}

fn merge(a: Sums, b: Sums) -> Sums {
    return Sums(add_pairs(a.dy, b.dy), add_pairs(a.product, b.product));
}
