// Two f16 in a word, the first one in its low half.
fn unpacked(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

// What is packed are f16 already. pack2x16float would do, but for NaN, of which one driver lets bits spill into the
// other half.
fn packed(values: vec2<f32>) -> u32 {
    let bits = bitcast<vec2<u32>>(values);
    let size = bits & vec2<u32>(0x7fffffffu);
    let normal = (size >> vec2<u32>(13u)) - vec2<u32>(112u << 10u);
    // A whole number of units of 2^-24.
    let subnormal = vec2<u32>(abs(values) * 16777216.0);
    let beyond = select(vec2<u32>(0x7c00u), vec2<u32>(0x7e00u), size > vec2<u32>(0x7f800000u));
    let finite_size = select(normal, subnormal, size < vec2<u32>(0x38800000u));
    let half = select(finite_size, beyond, size >= vec2<u32>(0x7f800000u));
    let signed = half | ((bits >> vec2<u32>(16u)) & vec2<u32>(0x8000u));
    return signed.x | (signed.y << 16u);
}
