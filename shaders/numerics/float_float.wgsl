// uses: data/params, data/per_channel

// Sums that keep what rounding would lose.

// An unevaluated sum of a number and a much smaller one.
struct FloatFloat {
    hi: PerChannel,
    lo: PerChannel,
}

// The value, hidden from the optimiser. Shader compilers simplify (a + b) - a to b, and (x - hi) - lo to x - (hi + lo),
// which undoes every compensated sum. They cannot look through this integer operation.
fn opaque(value: PerChannel) -> PerChannel {
    return bitcast<PerChannel>(bitcast<PerChannelBits>(value) ^ PerChannelBits(params.opaque_zero));
}

// The second part of a pair, or 0 if the first is infinite or NaN: nothing was lost then.
fn lost(hi: PerChannel, lo: PerChannel) -> PerChannel {
    return select(PerChannel(0.0), lo, finite(hi));
}

// a + b as the rounded sum and what rounding lost: Knuth's two-sum, exact.
fn two_sum(a: PerChannel, b: PerChannel) -> FloatFloat {
    let sum = opaque(a + b);
    let part = opaque(sum - a);
    return FloatFloat(sum, lost(sum, opaque(a - opaque(sum - part)) + opaque(b - part)));
}

fn add_to_pair(pair: FloatFloat, b: PerChannel) -> FloatFloat {
    let sum = two_sum(pair.hi, b);
    return two_sum(sum.hi, sum.lo + pair.lo);
}

fn add_pairs(a: FloatFloat, b: FloatFloat) -> FloatFloat {
    let sum = two_sum(a.hi, b.hi);
    return two_sum(sum.hi, sum.lo + (a.lo + b.lo));
}

// a * b as the rounded product and what rounding lost: Dekker's product of halves with 12 bits each. `fma` need not be
// fused.
fn exact_product(a: PerChannel, b: PerChannel) -> FloatFloat {
    let product = opaque(a * b);
    let a_high = bitcast<PerChannel>(bitcast<PerChannelBits>(a) & PerChannelBits(0xfffff000u));
    let b_high = bitcast<PerChannel>(bitcast<PerChannelBits>(b) & PerChannelBits(0xfffff000u));
    let a_low = a - a_high;
    let b_low = b - b_high;
    let rest = opaque(opaque(opaque(a_high * b_high) - product) + opaque(a_high * b_low));
    return FloatFloat(product, lost(product, opaque(rest + opaque(a_low * b_high)) + a_low * b_low));
}

fn divide_pair(pair: FloatFloat, divisor: PerChannel) -> FloatFloat {
    let quotient = opaque(pair.hi / divisor);
    let product = exact_product(quotient, divisor);
    let rest = (opaque(pair.hi - product.hi) - product.lo) + pair.lo;
    return FloatFloat(quotient, lost(quotient, rest / divisor));
}
