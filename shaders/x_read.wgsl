// The input.
@group(0) @binding(1) var<storage, read> x: array<Stored>;

fn load_x(element: u32) -> Value {
    let at = params.x_offset + element;
    return loaded(x[place_of(at)], at);
}
