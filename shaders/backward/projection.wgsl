// uses: numerics/float_float

// What dx must lose of dy: its mean, and its slope along x. Both are pairs, because where few values share a
// channel, almost all of dy is lost, and what is left shows every rounding.
struct Projection {
    mean_dy: FloatFloat,
    slope: FloatFloat,
}
