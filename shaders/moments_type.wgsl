// Moments of a set of values: how many, their mean and the sum of squared deviations from it.
//
// The mean is an unevaluated sum mean_hi + mean_lo, because one f32 is not enough for data whose mean is
// large beside its spread: at mean 1e4 and deviation 1, half a unit in the mean's last place is already
// an error of 5e-4 in every x - mean.
struct Moments {
    count: u32,
    mean_hi: f32,
    mean_lo: f32,
    m2: f32,
}

// What a workgroup merges across its lanes.
alias Partial = Moments;

fn pack(value: Partial) -> vec4<u32> {
    let parts = vec3<f32>(value.mean_hi, value.mean_lo, value.m2);
    return vec4<u32>(value.count, bitcast<vec3<u32>>(parts));
}

fn unpack(words: vec4<u32>) -> Partial {
    let parts = bitcast<vec3<f32>>(words.yzw);
    return Moments(words.x, parts.x, parts.y, parts.z);
}

// Moments of `count` >= 1 values from the sums of d and d * d, where d = value - pivot.
fn moments_around(pivot: f32, count: u32, sum: f32, sum_of_squares: f32) -> Moments {
    let shift = sum / f32(count);
    let mean = two_sum(pivot, shift);
    // At least 0, written so that NaN stays NaN.
    let m2 = sum_of_squares - sum * shift;
    return Moments(count, mean.x, mean.y, select(m2, 0.0, m2 < 0.0));
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
    if !(is_finite(a.mean_hi) && is_finite(b.mean_hi)) {
        // Infinity and a number make infinity, where their difference would make NaN. The squares of the
        // set that is not finite are NaN already.
        return Moments(count, a.mean_hi + b.mean_hi, 0.0, a.m2 + b.m2);
    }
    let delta = rounded(b.mean_hi - a.mean_hi) + (b.mean_lo - a.mean_lo);
    let mean = add_to_pair(vec2<f32>(a.mean_hi, a.mean_lo), delta * share);
    return Moments(count, mean.x, mean.y, a.m2 + b.m2 + delta * delta * (f32(a.count) * share));
}
