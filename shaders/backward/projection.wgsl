// uses: numerics/float_float

// The part of dy that dx loses: its mean, and its slope along x. Both are float-float, because if few values share a
// channel, almost all of dy is lost, and the rest shows every rounding.
struct Projection {
    mean_dy: FloatFloat,
    slope: FloatFloat,
}
