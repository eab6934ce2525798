// uses: data/vector, statistics/type

// How the gradient of y arrives at what is normalised: upstream.

// case plain:
// y is what is normalised: its gradient arrives as it is.
alias PreActivation = u32;

fn pre_activation_of(channel: u32, statistics: Statistics) -> PreActivation {
    return 0u;
}

fn through_pre_activation(dy: Vector, x: Vector, element: u32, pre_activation: PreActivation) -> Vector {
    return dy;
}

// case recomputed:
// uses: epilogue/activation, epilogue/residual, forward/scale_shift
// y = activation(bn(x) + z): its gradient goes through the activation first, at a value that is computed once more,
// since that is cheaper than to have it written and read.
alias PreActivation = ScaleShift;

fn pre_activation_of(channel: u32, statistics: Statistics) -> PreActivation {
    return scale_shift_of(channel, statistics);
}

fn through_pre_activation(dy: Vector, x: Vector, element: u32, pre_activation: PreActivation) -> Vector {
    return through_activation(dy, with_residual(apply(x, pre_activation), element));
}
