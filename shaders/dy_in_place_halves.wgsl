// dx overwrites dy, in halves of words: see storage_halves.wgsl.
fn load_dy(element: u32) -> Value {
    let at = params.dx_offset + element;
    return loaded(atomicLoad(&dx_tensor[place_of(at)]), at);
}
