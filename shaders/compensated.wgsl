// Sums that keep what rounding would lose.

// The value as it was rounded. Shader compilers simplify (a + b) - a to b and (x - hi) - lo to
// x - (hi + lo), which undoes every compensated sum; they cannot look through this integer operation.
fn rounded(value: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(value) ^ params.zero);
}

// a + b as the rounded sum and what rounding lost: Knuth's two-sum, exact. A sum that is infinite or NaN
// has lost nothing.
fn two_sum(a: f32, b: f32) -> vec2<f32> {
    let sum = rounded(a + b);
    if !is_finite(sum) {
        return vec2<f32>(sum, 0.0);
    }
    let part = rounded(sum - a);
    return vec2<f32>(sum, rounded(a - rounded(sum - part)) + rounded(b - part));
}

// pair + b, where a pair is an unevaluated sum of a number and a much smaller one.
fn add_to_pair(pair: vec2<f32>, b: f32) -> vec2<f32> {
    let sum = two_sum(pair.x, b);
    return two_sum(sum.x, sum.y + pair.y);
}

// The sum of two pairs.
fn add_pairs(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let sum = two_sum(a.x, b.x);
    return two_sum(sum.x, sum.y + (a.y + b.y));
}

// a * b as the rounded product and what rounding lost: Dekker's product of halves with 12 bits each, since
// `fma` need not be fused.
fn exact_product(a: f32, b: f32) -> vec2<f32> {
    let product = rounded(a * b);
    if !is_finite(product) {
        return vec2<f32>(product, 0.0);
    }
    let a_high = bitcast<f32>(bitcast<u32>(a) & 0xfffff000u);
    let b_high = bitcast<f32>(bitcast<u32>(b) & 0xfffff000u);
    let a_low = a - a_high;
    let b_low = b - b_high;
    let rest = rounded(rounded(rounded(a_high * b_high) - product) + rounded(a_high * b_low));
    return vec2<f32>(product, rounded(rest + rounded(a_low * b_high)) + a_low * b_low);
}

// A pair divided by a number.
fn divide_pair(pair: vec2<f32>, divisor: f32) -> vec2<f32> {
    let quotient = rounded(pair.x / divisor);
    if !is_finite(quotient) {
        return vec2<f32>(quotient, 0.0);
    }
    let product = exact_product(quotient, divisor);
    let rest = (rounded(pair.x - product.x) - product.y) + pair.y;
    return vec2<f32>(quotient, rest / divisor);
}
