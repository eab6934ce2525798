// Tensors hold elements of 16 bits in words, two in each: a load is two words.
alias Stored = vec2<u32>;

// Where in its binding the load of an element is.
fn place_of(element: u32) -> u32 {
    return element;
}

fn loaded(found: Stored, element: u32) -> Value {
    return Value(unpacked(found.x), unpacked(found.y));
}

fn stored(value: Value) -> Stored {
    let bits = bits_of_type(value);
    return bits.xz | (bits.yw << vec2<u32>(16u));
}
