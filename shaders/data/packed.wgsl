// uses: data/vector

// Two elements of 16 bits in a word: unpacked, bits_of_type.

// case f16:
// A word holds two f16, the first one in its low half.
fn unpacked(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

// The bits of the nearest f16; of two that are as near, the even one. pack2x16float lets the driver choose between the
// two neighbours, and one driver lets bits of NaN spill into the other half.
fn bits_of_type(value: Vector) -> VectorBits {
    let size = bitcast<VectorBits>(value) & VectorBits(0x7fffffffu);
    // Beside 2^13 times the value's power of two, f32 holds whole units of f16 only: a sum with that rounds the value,
    // and its last bits count the units. Below 2^-14, the unit is 2^-24 throughout.
    let power = max(size & VectorBits(0x7f800000u), VectorBits(113u << 23u));
    let beside = power + VectorBits(13u << 23u);
    let units = bitcast<VectorBits>(bitcast<Vector>(size) + bitcast<Vector>(beside)) - beside;
    // The exponent is one less, since a normal number has 1024 units and more. Above the largest f16 comes infinity.
    let number = min(units + (power >> VectorBits(13u)) - VectorBits(113u << 10u), VectorBits(0x7c00u));
    let nearest = select(number, VectorBits(0x7e00u), size > VectorBits(0x7f800000u));
    return nearest | ((bitcast<VectorBits>(value) >> VectorBits(16u)) & VectorBits(0x8000u));
}

// case bf16:
// A word holds two bf16, the first one in its low half. A bf16 is the upper half of an f32.
fn unpacked(word: u32) -> vec2<f32> {
    return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
}

// The bits of the nearest bf16; of two that are as near, the even one. 7 of the 23 bits of the fraction are left. A
// carry goes into the exponent, as it should. NaN stays NaN: a carry could make infinity or zero of it.
fn bits_of_type(value: Vector) -> VectorBits {
    let bits = bitcast<VectorBits>(value);
    let half_unit = VectorBits(0x7fffu) + ((bits >> VectorBits(16u)) & VectorBits(1u));
    let is_nan = (bits & VectorBits(0x7fffffffu)) > VectorBits(0x7f800000u);
    return select(bits + half_unit, bits | VectorBits(0x00400000u), is_nan) >> VectorBits(16u);
}
