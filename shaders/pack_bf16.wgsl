// Two bf16 in a word, the first one in its low half: the upper halves of their f32.
fn unpacked(word: u32) -> vec2<f32> {
    return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
}

fn packed(values: vec2<f32>) -> u32 {
    let bits = bitcast<vec2<u32>>(values);
    return (bits.x >> 16u) | (bits.y & 0xffff0000u);
}
