// uses: data/vector, statistics/type

// The gradient of bn(x) + residual from that of y: through_pre_activation.

// case plain:
// There is no activation: both are the same.
alias PreActivation = u32;

fn pre_activation_of(channel: u32, statistics: Statistics) -> PreActivation {
    return 0u;
}

fn through_pre_activation(dy: Vector, x: Vector, residual: Vector, pre_activation: PreActivation) -> Vector {
    return dy;
}

// case recomputed:
// uses: epilogue/activation, epilogue/residual, forward/scale_shift
// y = activation(bn(x) + residual). bn(x) + residual is computed once more, which is cheaper than writing and reading
// it.
alias PreActivation = ScaleShift;

fn pre_activation_of(channel: u32, statistics: Statistics) -> PreActivation {
    return scale_shift_of(channel, statistics);
}

fn through_pre_activation(dy: Vector, x: Vector, residual: Vector, pre_activation: PreActivation) -> Vector {
    return through_activation(dy, with_residual(apply(x, pre_activation), residual));
}
