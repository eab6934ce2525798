// Tensors hold f16, a type of the adapter's; elements are computed with as f32.
alias Stored = f16;

// Where in its binding the load of an element is.
fn place_of(element: u32) -> u32 {
    return element;
}

fn loaded(found: Stored, element: u32) -> Value {
    return Value(found);
}

fn stored(value: Value) -> Stored {
    return Stored(rounded_to_type(value));
}
