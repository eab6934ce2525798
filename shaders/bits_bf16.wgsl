// bf16 as bits, of which a word holds two, the first one in its low half: the upper halves of their f32.
fn unpacked(word: u32) -> vec2<f32> {
    return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
}

// The bits of the nearest bf16, to even where two are as near. Of 23 bits of the fraction, 7 are left; a carry goes
// into the exponent, as it should. NaN stays NaN, where a carry could make infinity or zero of it.
fn bits_of_type(value: Value) -> Words {
    let bits = bitcast<Words>(value);
    let half_unit = Words(0x7fffu) + ((bits >> Words(16u)) & Words(1u));
    let is_nan = (bits & Words(0x7fffffffu)) > Words(0x7f800000u);
    return select(bits + half_unit, bits | Words(0x00400000u), is_nan) >> Words(16u);
}
