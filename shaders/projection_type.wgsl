// What dx must lose of dy: its mean, and its slope along x. Both are unevaluated pairs, because where few
// values share a channel, almost all of dy is lost, and what is left shows every rounding.
struct Projection {
    mean_dy: vec2<f32>,
    slope: vec2<f32>,
}
