// The uniform that every kernel gets, and what all kernels share. Names and meanings are those of the Rust struct
// `Params`; a test compares the two layouts.

// How a channel is divided among workgroups (planes) or invocations (columns, column blocks; see iterate/traversal).
struct Splits {
    // How many share a channel.
    count: u32,
    // What a split has at most: loads (planes), or periods.
    chunk: u32,
    // The loads of a period, and how many workgroups share it (columns, column blocks).
    period: u32,
    tiles: u32,
}

struct Params {
    // The tensor as [outer, channels, inner], and the values of each channel.
    outer: u32,
    channels: u32,
    inner: u32,
    values: u32,
    // For kernels that reduce channels, and for elementwise kernels.
    reduction: Splits,
    elementwise: Splits,
    // Where each tensor begins in its binding, in Vectors.
    x_offset: u32,
    y_offset: u32,
    dy_offset: u32,
    dx_offset: u32,
    residual_offset: u32,
    dresidual_offset: u32,
    eps: f32,
    // running = retain * running + momentum * batch; unused for the cumulative average.
    momentum: f32,
    retain: f32,
    skip_non_finite: u32,
    // A power of two from 1 / (2 * values) to 1 / values, exclusive and inclusive, by which sums of gradients are
    // scaled.
    sum_scale: f32,
    // Whether the gradients of weight and bias are added to what is there.
    accumulate: u32,
    // The slope of LeakyReLU for negative values.
    slope: f32,
    // Always 0, which no compiler knows: see `opaque` in numerics/float_float.wgsl.
    opaque_zero: u32,
    // The channels of this dispatch: a large tensor may be normalised in groups, each while it is in the cache.
    first_channel: u32,
    group_channels: u32,
}

@group(0) @binding(0) var<uniform> uniform_params: Params;

// Every kernel begins with a copy of the uniform to here. Some compilers read a uniform anew at every use if the shader
// writes to a buffer, since the two may overlap. A private variable ends up in registers.
var<private> params: Params;

// The number of a workgroup. Dispatches of more than 65,535 workgroups have two dimensions.
fn linear_workgroup(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 {
    return workgroup.y * grid.x + workgroup.x;
}

// Whether a number is neither infinite nor NaN. The exponent tells: comparisons with NaN are not reliable under the
// drivers' fast-math rules.
fn is_finite(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}

// The workgroups in reverse order. Surplus ones stay behind the last.
fn reversed(workgroup: u32, count: u32) -> u32 {
    return select(count - 1u - workgroup, count, workgroup >= count);
}
