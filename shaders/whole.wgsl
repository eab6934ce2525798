// Every load lies inside the channel or channels that are walked.
const RAGGED: bool = false;

fn next_channel(channel: u32) -> u32 {
    return channel;
}

fn first_inside(value: Value, run: Run, element: u32) -> Number {
    return first(value);
}

// How many values of one channel a load has.
fn values_inside(run: Run, element: u32) -> u32 {
    return VALUES_OF_CHANNEL;
}

fn inside_or_zero(value: Value, run: Run, element: u32) -> Value {
    return value;
}

fn inside_or(other: Value, value: Value, run: Run, element: u32) -> Value {
    return value;
}
