// uses: data/per_channel, numerics/float_float

// The moments of a set of values: count, mean, and the sum of squared deviations from it.
//
// The mean is float-float, because one f32 is not enough for data whose mean is large beside its spread: at mean
// 1e4 and deviation 1, half a unit in the mean's last place is already an error of 5e-4 in every x - mean.
struct Moments {
    count: u32,
    mean: FloatFloat,
    // With the sign bit, the sum is too large for f32, and this is the sum for values divided by LARGE. So it has a
    // ninth bit of exponent, and needs no more room.
    m2: PerChannel,
}

// What a workgroup merges across its lanes.
alias Partial = Moments;

// 2^96, and its reciprocal. The squares of any values that are divided by it fit into f32, and so do their sums.
const LARGE: f32 = 79228162514264337593543950336.0;
const PER_LARGE: f32 = 1.0 / LARGE;

const SIGN_BIT: u32 = 0x80000000u;

fn is_large(m2: PerChannel) -> PerChannelMask {
    return (bitcast<PerChannelBits>(m2) & PerChannelBits(SIGN_BIT)) != PerChannelBits(0u);
}

// A sum for values divided by LARGE, as it is kept; and back.
fn marked_large(m2: PerChannel) -> PerChannel {
    return bitcast<PerChannel>(bitcast<PerChannelBits>(m2) | PerChannelBits(SIGN_BIT));
}

fn without_mark(m2: PerChannel) -> PerChannel {
    return bitcast<PerChannel>(bitcast<PerChannelBits>(m2) & PerChannelBits(~SIGN_BIT));
}

// The moments of the k-th channel, in four words.
fn pack(value: Partial, k: u32) -> vec4<u32> {
    let parts = vec3<f32>(component(value.mean.hi, k), component(value.mean.lo, k), component(value.m2, k));
    return vec4<u32>(value.count, bitcast<vec3<u32>>(parts));
}

fn unpack(words: vec4<u32>) -> Partial {
    let parts = bitcast<vec3<f32>>(words.yzw);
    return Moments(words.x, FloatFloat(PerChannel(parts.x), PerChannel(parts.y)), PerChannel(parts.z));
}

// All channels of a column have as many values, so that the last one's count is right.
fn with_channel(value: Partial, k: u32, channel: Partial) -> Partial {
    let mean = FloatFloat(
        with_component(value.mean.hi, k, component(channel.mean.hi, 0u)),
        with_component(value.mean.lo, k, component(channel.mean.lo, 0u)),
    );
    return Moments(channel.count, mean, with_component(value.m2, k, component(channel.m2, 0u)));
}

// Moments of `count` >= 1 values from the sums of d and d * d, where d = value * scale - pivot, and scale is 1 or
// PER_LARGE.
fn moments_around(
    pivot: FloatFloat,
    scale: PerChannel,
    count: u32,
    sum: PerChannel,
    sum_of_squares: PerChannel,
) -> Moments {
    let shift = sum / f32(count);
    // At least 0, written so that NaN stays NaN.
    let difference = sum_of_squares - sum * shift;
    let m2 = select(difference, PerChannel(0.0), difference < PerChannel(0.0));
    let mean = add_to_pair(pivot, shift);
    let is_scaled = scale < PerChannel(1.0);
    let unit = select(PerChannel(1.0), PerChannel(LARGE), is_scaled);
    return Moments(count, FloatFloat(mean.hi * unit, mean.lo * unit), select(m2, marked_large(m2), is_scaled));
}

// Moments of the union of two sets: Chan, Golub and LeVeque's formula.
fn merge(a: Moments, b: Moments) -> Moments {
    if b.count == 0u {
        return a;
    }
    if a.count == 0u {
        return b;
    }
    let merged = merge_scaled(a, b, a.m2 + b.m2, 1.0);
    let is_one_large = is_large(bitcast<PerChannel>(bitcast<PerChannelBits>(a.m2) | bitcast<PerChannelBits>(b.m2)));
    let is_right = finite(merged.mean.hi) & finite(merged.m2) & (is_one_large == PerChannelMask(false));
    if all(is_right) {
        return merged;
    }
    // Both for values divided by LARGE.
    let large = merge_scaled(a, b, large_m2(a.m2) + large_m2(b.m2), PER_LARGE);
    return Moments(
        merged.count,
        FloatFloat(
            select(large.mean.hi * LARGE, merged.mean.hi, is_right),
            select(large.mean.lo * LARGE, merged.mean.lo, is_right),
        ),
        select(marked_large(large.m2), merged.m2, is_right),
    );
}

// A sum for values divided by LARGE. (Compilers may not merge the two factors: their product is 0.)
fn large_m2(m2: PerChannel) -> PerChannel {
    return select(opaque(m2 * PER_LARGE) * PER_LARGE, without_mark(m2), is_large(m2));
}

// The same for values times `scale`, from the sum of both m2.
fn merge_scaled(a: Moments, b: Moments, sum_of_m2: PerChannel, scale: f32) -> Moments {
    let count = a.count + b.count;
    let share = f32(b.count) / f32(count);
    let mean_of_a = FloatFloat(a.mean.hi * scale, a.mean.lo * scale);
    let delta = opaque(b.mean.hi * scale - mean_of_a.hi) + (b.mean.lo * scale - mean_of_a.lo);
    let mean = add_to_pair(mean_of_a, delta * share);
    let between = delta * delta * (f32(a.count) * share);
    // Infinity and a number make infinity, where their difference would make NaN. The squares of the set
    // that is not finite are NaN already.
    let both = finite(a.mean.hi) & finite(b.mean.hi);
    return Moments(
        count,
        FloatFloat(select(a.mean.hi + b.mean.hi, mean.hi, both), select(PerChannel(0.0), mean.lo, both)),
        sum_of_m2 + select(PerChannel(0.0), between, both),
    );
}

// weight * m2 / degrees, or infinity if that is too large for f32.
fn weighted_variance(batch: Moments, degrees: u32, weight: f32) -> PerChannel {
    let variance = weight * (without_mark(batch.m2) / f32(degrees));
    return select(variance, opaque(variance * LARGE) * LARGE, is_large(batch.m2));
}

// The biased variance.
fn variance_of(batch: Moments) -> PerChannel {
    return weighted_variance(batch, batch.count, 1.0);
}

// A pivot: every deviation from infinity would be NaN.
fn finite_or_zero(value: PerChannel) -> PerChannel {
    return select(PerChannel(0.0), value, finite(value));
}
