// uses: data/vector

// How elements lie in memory: Stored, word_of, loaded, stored.

// case f32:
// Tensors hold f32: elements lie in memory as they are computed with.
alias Stored = Vector;

// The index of an element's load in its binding.
fn word_of(element: u32) -> u32 {
    return element;
}

fn loaded(found: Stored, element: u32) -> Vector {
    return found;
}

fn stored(value: Vector) -> Stored {
    return value;
}

// case f16_scalar:
// uses: data/round_f16
// Tensors hold f16, which the adapter has as a type. Elements are computed with as f32.
alias Stored = f16;

// The index of an element's load in its binding.
fn word_of(element: u32) -> u32 {
    return element;
}

fn loaded(found: Stored, element: u32) -> Vector {
    return Vector(found);
}

fn stored(value: Vector) -> Stored {
    return Stored(rounded_to_type(value));
}

// case f16_vector:
// uses: data/round_f16
// Tensors hold f16, which the adapter has as a type. Elements are computed with as f32.
alias Stored = vec4<f16>;

// The index of an element's load in its binding.
fn word_of(element: u32) -> u32 {
    return element;
}

fn loaded(found: Stored, element: u32) -> Vector {
    return Vector(found);
}

fn stored(value: Vector) -> Stored {
    return Stored(rounded_to_type(value));
}

// case packed_scalar:
// uses: data/packed
// A word holds two elements of 16 bits, and one is loaded or stored at a time. Another invocation may write the other
// half of the word meanwhile, so stores are atomic and change their half only.
alias Stored = u32;

// The index of an element's word in its binding.
fn word_of(element: u32) -> u32 {
    return element / 2u;
}

fn loaded(found: Stored, element: u32) -> Vector {
    let both = unpacked(found);
    return select(both.x, both.y, element % 2u == 1u);
}

// The bits of a value in its half of the word; and the other half.
fn half_of_word(value: Vector, element: u32) -> u32 {
    let bits = bits_of_type(value);
    return select(bits, bits << 16u, element % 2u == 1u);
}

fn other_half(element: u32) -> u32 {
    return select(0xffff0000u, 0xffffu, element % 2u == 1u);
}

// case packed_vector:
// uses: data/packed
// A word holds two elements of 16 bits. A load is two words.
alias Stored = vec2<u32>;

// The index of an element's load in its binding.
fn word_of(element: u32) -> u32 {
    return element;
}

fn loaded(found: Stored, element: u32) -> Vector {
    return Vector(unpacked(found.x), unpacked(found.y));
}

fn stored(value: Vector) -> Stored {
    let bits = bits_of_type(value);
    return bits.xz | (bits.yw << vec2<u32>(16u));
}
