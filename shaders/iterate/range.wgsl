// uses: data/per_channel, data/vector

// A walk goes in runs.

// Elements begin, begin + step, and so on, before end, counted in Values.
struct Run {
    begin: u32,
    end: u32,
    step: u32,
}

// Where a run is after so many more loads, or its end.
fn run_stop(run: Run, element: u32, loads: u32) -> u32 {
    // The product must fit into 32 bits, for up to 64 loads.
    return element + min(run.end - element, min(run.step, 0x3ffffffu) * loads);
}

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
