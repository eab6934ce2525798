// y is what is normalised: its gradient arrives as it is.
alias Gate = u32;

fn gate_of(channel: u32, statistics: Statistics) -> Gate {
    return 0u;
}

fn upstream(dy: Value, x: Value, element: u32, gate: Gate) -> Value {
    return dy;
}
