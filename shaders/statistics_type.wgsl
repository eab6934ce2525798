// What a channel is normalised with: its mean as an unevaluated sum, 1 / sqrt(var + eps), and var.
struct Statistics {
    mean_hi: f32,
    mean_lo: f32,
    inv_std: f32,
    variance: f32,
}

// 1 / sqrt(variance + eps). The built-in may be off by some units in the last place; one Newton step
// brings it to the last one.
fn inverse_deviation(variance: f32) -> f32 {
    let value = variance + params.eps;
    let root = inverseSqrt(value);
    let refined = root + 0.5 * root * fma(-value * root, root, 1.0);
    // 1 / sqrt(0) is infinity and 1 / sqrt(infinity) is 0, where a Newton step would make NaN.
    return select(root, refined, value > 0.0 && is_finite(value));
}
