// uses: data/per_channel, numerics/float_float

// Moments of a set of values: how many, their mean and the sum of squared deviations from it.
//
// The mean is a pair, because one f32 is not enough for data whose mean is large beside its spread: at mean
// 1e4 and deviation 1, half a unit in the mean's last place is already an error of 5e-4 in every x - mean.
struct Moments {
    count: u32,
    mean: Pair,
    m2: Number,
}

// What a workgroup merges across its lanes.
alias Partial = Moments;

// The moments of the k-th channel at once, in four words.
fn pack(value: Partial, k: u32) -> vec4<u32> {
    let parts = vec3<f32>(part(value.mean.hi, k), part(value.mean.lo, k), part(value.m2, k));
    return vec4<u32>(value.count, bitcast<vec3<u32>>(parts));
}

fn unpack(words: vec4<u32>) -> Partial {
    let parts = bitcast<vec3<f32>>(words.yzw);
    return Moments(words.x, Pair(Number(parts.x), Number(parts.y)), Number(parts.z));
}

// Moments of `count` >= 1 values from the sums of d and d * d, where d = value - pivot.
fn moments_around(pivot: Number, count: u32, sum: Number, sum_of_squares: Number) -> Moments {
    let shift = sum / f32(count);
    // At least 0, written so that NaN stays NaN.
    let m2 = sum_of_squares - sum * shift;
    return Moments(count, two_sum(pivot, shift), select(m2, Number(0.0), m2 < Number(0.0)));
}

// Moments of the union of two sets: Chan, Golub and LeVeque's formula.
fn merge(a: Moments, b: Moments) -> Moments {
    if b.count == 0u {
        return a;
    }
    if a.count == 0u {
        return b;
    }
    let count = a.count + b.count;
    let share = f32(b.count) / f32(count);
    let delta = rounded(b.mean.hi - a.mean.hi) + (b.mean.lo - a.mean.lo);
    let mean = add_to_pair(a.mean, delta * share);
    let between = delta * delta * (f32(a.count) * share);
    // Infinity and a number make infinity, where their difference would make NaN. The squares of the set
    // that is not finite are NaN already.
    let both = finite(a.mean.hi) & finite(b.mean.hi);
    return Moments(
        count,
        Pair(select(a.mean.hi + b.mean.hi, mean.hi, both), select(Number(0.0), mean.lo, both)),
        a.m2 + b.m2 + select(Number(0.0), between, both),
    );
}

// With infinity for a pivot, every deviation would be NaN.
fn finite_or_zero(value: Number) -> Number {
    return select(Number(0.0), value, finite(value));
}
