// uses: data/vector, statistics/type

// How the gradient of y arrives at what is normalised: upstream.

// case plain:
// y is what is normalised: its gradient arrives as it is.
alias Gate = u32;

fn gate_of(channel: u32, statistics: Statistics) -> Gate {
    return 0u;
}

fn upstream(dy: Value, x: Value, element: u32, gate: Gate) -> Value {
    return dy;
}

// case recomputed:
// uses: epilogue/activation, epilogue/residual, forward/scale_shift
// y = activation(bn(x) + z): its gradient goes through the activation first, at a value that is computed once more,
// since that is cheaper than to have it written and read.
alias Gate = Normal;

fn gate_of(channel: u32, statistics: Statistics) -> Gate {
    return normal_of(channel, statistics);
}

fn upstream(dy: Value, x: Value, element: u32, gate: Gate) -> Value {
    return through_activation(dy, with_residual(normalized(x, gate), element));
}
