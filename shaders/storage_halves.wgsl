// Tensors hold elements of 16 bits in words, two in each, and one is loaded or stored at a time. Another
// invocation may write the other one of the word meanwhile: hence stores are atomic, and touch only their half.
alias Stored = u32;

// Where in its binding the word of an element is.
fn place_of(element: u32) -> u32 {
    return element / 2u;
}

fn loaded(found: Stored, element: u32) -> Value {
    let both = unpacked(found);
    return select(both.x, both.y, element % 2u == 1u);
}

// The bits of a value in its half of the word; and the other half.
fn half_of_word(value: Value, element: u32) -> u32 {
    let bits = bits_of_type(value);
    return select(bits, bits << 16u, element % 2u == 1u);
}

fn other_half(element: u32) -> u32 {
    return select(0xffff0000u, 0xffffu, element % 2u == 1u);
}
