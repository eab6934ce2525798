// y overwrites x: one binding for both, since a dispatch cannot read and write a buffer through two.
fn load_x(element: u32) -> Value {
    let at = params.y_offset + element;
    return loaded(y[place_of(at)], at);
}
