// uses: data/params, data/per_channel

// Sums that keep what rounding would lose.

// An unevaluated sum of a number and a much smaller one.
struct Pair {
    hi: Number,
    lo: Number,
}

// The value as it was rounded. Shader compilers simplify (a + b) - a to b and (x - hi) - lo to
// x - (hi + lo), which undoes every compensated sum; they cannot look through this integer operation.
fn rounded(value: Number) -> Number {
    return bitcast<Number>(bitcast<Bits>(value) ^ Bits(params.zero));
}

// The second part of a pair, or 0 where the first is infinite or NaN: nothing was lost then.
fn lost(hi: Number, lo: Number) -> Number {
    return select(Number(0.0), lo, finite(hi));
}

// a + b as the rounded sum and what rounding lost: Knuth's two-sum, exact.
fn two_sum(a: Number, b: Number) -> Pair {
    let sum = rounded(a + b);
    let part = rounded(sum - a);
    return Pair(sum, lost(sum, rounded(a - rounded(sum - part)) + rounded(b - part)));
}

fn add_to_pair(pair: Pair, b: Number) -> Pair {
    let sum = two_sum(pair.hi, b);
    return two_sum(sum.hi, sum.lo + pair.lo);
}

fn add_pairs(a: Pair, b: Pair) -> Pair {
    let sum = two_sum(a.hi, b.hi);
    return two_sum(sum.hi, sum.lo + (a.lo + b.lo));
}

// a * b as the rounded product and what rounding lost: Dekker's product of halves with 12 bits each, since
// `fma` need not be fused.
fn exact_product(a: Number, b: Number) -> Pair {
    let product = rounded(a * b);
    let a_high = bitcast<Number>(bitcast<Bits>(a) & Bits(0xfffff000u));
    let b_high = bitcast<Number>(bitcast<Bits>(b) & Bits(0xfffff000u));
    let a_low = a - a_high;
    let b_low = b - b_high;
    let rest = rounded(rounded(rounded(a_high * b_high) - product) + rounded(a_high * b_low));
    return Pair(product, lost(product, rounded(rest + rounded(a_low * b_high)) + a_low * b_low));
}

fn divide_pair(pair: Pair, divisor: Number) -> Pair {
    let quotient = rounded(pair.hi / divisor);
    let product = exact_product(quotient, divisor);
    let rest = (rounded(pair.hi - product.hi) - product.lo) + pair.lo;
    return Pair(quotient, lost(quotient, rest / divisor));
}
