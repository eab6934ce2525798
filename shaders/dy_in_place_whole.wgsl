// dx overwrites dy: one binding for both, since a dispatch cannot read and write a buffer through two.
fn load_dy(element: u32) -> Value {
    let at = params.dx_offset + element;
    return loaded(dx_tensor[place_of(at)], at);
}
