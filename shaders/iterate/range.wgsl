// uses: data/per_channel, data/vector

// A strided range of loads, all of whose elements count.

// The loads begin, begin + step, and so on, before end, counted in Vectors.
struct Range {
    begin: u32,
    end: u32,
    step: u32,
}

// Where a range is after so many more loads, or its end.
fn block_end(range: Range, element: u32, loads: u32) -> u32 {
    // The product must fit into 32 bits, for up to 64 loads.
    return element + min(range.end - element, min(range.step, 0x3ffffffu) * loads);
}

// No load reaches into another channel.
const MASKED: bool = false;

fn next_channel(channel: u32) -> u32 {
    return channel;
}

fn first_inside(value: Vector, range: Range, element: u32) -> PerChannel {
    return first_component(value);
}

// How many values of one channel a load has.
fn values_inside(range: Range, element: u32) -> u32 {
    return VALUES_OF_CHANNEL;
}

fn select_inside_or_zero(value: Vector, range: Range, element: u32) -> Vector {
    return value;
}

fn select_inside(other: Vector, value: Vector, range: Range, element: u32) -> Vector {
    return value;
}
