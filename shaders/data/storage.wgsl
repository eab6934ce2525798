// uses: data/vector

// How elements lie in memory: Stored, word_of, loaded, stored. A load is a vector; or two of 16 bits, so that it has 16
// bytes. Then, `loaded` gives the first or the second, and `stored` takes both.

// case f32:
// Tensors hold f32: elements lie in memory as they are computed with.
alias Stored = Vector;

// The index of an element's load in its binding.
fn word_of(element: u32) -> u32 {
    return element;
}

fn loaded(found: Stored, element: u32, is_second: bool) -> Vector {
    return found;
}

fn stored(value: Vector, second: Vector) -> Stored {
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

fn loaded(found: Stored, element: u32, is_second: bool) -> Vector {
    return Vector(found);
}

fn stored(value: Vector, second: Vector) -> Stored {
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

fn loaded(found: Stored, element: u32, is_second: bool) -> Vector {
    return Vector(found);
}

fn stored(value: Vector, second: Vector) -> Stored {
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

fn loaded(found: Stored, element: u32, is_second: bool) -> Vector {
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

fn loaded(found: Stored, element: u32, is_second: bool) -> Vector {
    return Vector(unpacked(found.x), unpacked(found.y));
}

fn stored(value: Vector, second: Vector) -> Stored {
    let bits = bits_of_type(value);
    return bits.xz | (bits.yw << vec2<u32>(16u));
}

// case packed_two_vectors:
// uses: data/packed
// A word holds two elements of 16 bits. A load is four words: two vectors.
alias Stored = vec4<u32>;

// The index of an element's load in its binding.
fn word_of(element: u32) -> u32 {
    return element;
}

fn loaded(found: Stored, element: u32, is_second: bool) -> Vector {
    let words = select(found.xy, found.zw, is_second);
    return Vector(unpacked(words.x), unpacked(words.y));
}

fn stored(value: Vector, second: Vector) -> Stored {
    let bits = bits_of_type(value);
    let of_second = bits_of_type(second);
    return Stored(bits.xz | (bits.yw << vec2<u32>(16u)), of_second.xz | (of_second.yw << vec2<u32>(16u)));
}

// case f16_two_vectors:
// uses: data/round_f16
// Tensors hold f16, which the adapter has as a type. A load is four words of two elements: two vectors. Words are bound,
// since no vector of f16 has 16 bytes; and naga does not make words of f16 as they are.
alias Stored = vec4<u32>;

// The index of an element's load in its binding.
fn word_of(element: u32) -> u32 {
    return element;
}

fn loaded(found: Stored, element: u32, is_second: bool) -> Vector {
    let words = select(found.xy, found.zw, is_second);
    return Vector(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn stored(value: Vector, second: Vector) -> Stored {
    return Stored(words_of(value), words_of(second));
}

// The device's conversion rounds. Numbers that f16 holds have bits of their own, whichever way the second one goes.
fn words_of(value: Vector) -> vec2<u32> {
    let nearest = Vector(vec4<f16>(rounded_to_type(value)));
    return vec2<u32>(pack2x16float(nearest.xy), pack2x16float(nearest.zw));
}
