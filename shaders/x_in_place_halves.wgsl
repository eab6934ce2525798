// y overwrites x, in halves of words: see storage_halves.wgsl.
fn load_x(element: u32) -> Value {
    let at = params.y_offset + element;
    return loaded(atomicLoad(&y[place_of(at)]), at);
}
