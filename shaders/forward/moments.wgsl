// uses: data/per_channel, numerics/float_float

// The moments of a set of values: count, mean, and the sum of squared deviations from it.
//
// The mean is float-float, because one f32 is not enough for data whose mean is large beside its spread: at mean
// 1e4 and deviation 1, half a unit in the mean's last place is already an error of 5e-4 in every x - mean.
struct Moments {
    count: u32,
    mean: FloatFloat,
    m2: PerChannel,
}

// What a workgroup merges across its lanes.
alias Partial = Moments;

// The moments of the k-th channel, in four words.
fn pack(value: Partial, k: u32) -> vec4<u32> {
    let parts = vec3<f32>(component(value.mean.hi, k), component(value.mean.lo, k), component(value.m2, k));
    return vec4<u32>(value.count, bitcast<vec3<u32>>(parts));
}

fn unpack(words: vec4<u32>) -> Partial {
    let parts = bitcast<vec3<f32>>(words.yzw);
    return Moments(words.x, FloatFloat(PerChannel(parts.x), PerChannel(parts.y)), PerChannel(parts.z));
}

// Moments of `count` >= 1 values from the sums of d and d * d, where d = value - pivot.
fn moments_around(pivot: PerChannel, count: u32, sum: PerChannel, sum_of_squares: PerChannel) -> Moments {
    let shift = sum / f32(count);
    // At least 0, written so that NaN stays NaN.
    let m2 = sum_of_squares - sum * shift;
    return Moments(count, two_sum(pivot, shift), select(m2, PerChannel(0.0), m2 < PerChannel(0.0)));
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
    let delta = opaque(b.mean.hi - a.mean.hi) + (b.mean.lo - a.mean.lo);
    let mean = add_to_pair(a.mean, delta * share);
    let between = delta * delta * (f32(a.count) * share);
    // Infinity and a number make infinity, where their difference would make NaN. The squares of the set
    // that is not finite are NaN already.
    let both = finite(a.mean.hi) & finite(b.mean.hi);
    return Moments(
        count,
        FloatFloat(select(a.mean.hi + b.mean.hi, mean.hi, both), select(PerChannel(0.0), mean.lo, both)),
        a.m2 + b.m2 + select(PerChannel(0.0), between, both),
    );
}

// A pivot: every deviation from infinity would be NaN.
fn finite_or_zero(value: PerChannel) -> PerChannel {
    return select(PerChannel(0.0), value, finite(value));
}
