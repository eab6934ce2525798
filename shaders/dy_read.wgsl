// The gradient with respect to the output.
@group(0) @binding(10) var<storage, read> dy: array<Stored>;

fn load_dy(element: u32) -> Value {
    let at = params.dy_offset + element;
    return loaded(dy[place_of(at)], at);
}
