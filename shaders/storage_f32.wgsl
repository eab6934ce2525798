// Tensors hold f32: elements lie in memory as they are computed with.
alias Stored = Value;

// Where in its binding the load of an element is.
fn place_of(element: u32) -> u32 {
    return element;
}

fn loaded(found: Stored, element: u32) -> Value {
    return found;
}

fn stored(value: Value) -> Stored {
    return value;
}
