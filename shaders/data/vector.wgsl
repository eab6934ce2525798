// uses: data/per_channel

// What is loaded and computed at once: Vector.

// case scalar:
// uses: numerics/float_float
// Elements are loaded one by one.
alias Vector = f32;

// Its bits, and what is true of its elements.
alias VectorBits = u32;
alias VectorMask = bool;

// Elements in a Vector, and how many of them are of one channel.
const VECTOR_WIDTH: u32 = 1u;
const VALUES_OF_CHANNEL: u32 = 1u;

fn first_component(value: Vector) -> PerChannel {
    return value;
}

fn horizontal_sum(value: Vector) -> PerChannel {
    return value;
}

// See `opaque`.
fn opaque_vector(value: Vector) -> Vector {
    return opaque(value);
}

// case four_elements:
// uses: data/params
// Elements are loaded in fours along a plane: all of one channel.
alias Vector = vec4<f32>;

// Its bits, and what is true of its elements.
alias VectorBits = vec4<u32>;
alias VectorMask = vec4<bool>;

// Elements in a Vector, and how many of them are of one channel.
const VECTOR_WIDTH: u32 = 4u;
const VALUES_OF_CHANNEL: u32 = 4u;

fn first_component(value: Vector) -> PerChannel {
    return value.x;
}

fn horizontal_sum(value: Vector) -> PerChannel {
    return (value.x + value.y) + (value.z + value.w);
}

// See `opaque`.
fn opaque_vector(value: Vector) -> Vector {
    return bitcast<Vector>(bitcast<VectorBits>(value) ^ VectorBits(params.opaque_zero));
}

// case four_channels:
// uses: numerics/float_float
// Elements are loaded in fours across channels: each of a channel of its own.
alias Vector = PerChannel;

// Its bits, and what is true of its elements.
alias VectorBits = vec4<u32>;
alias VectorMask = vec4<bool>;

// Elements in a Vector, and how many of them are of one channel.
const VECTOR_WIDTH: u32 = 4u;
const VALUES_OF_CHANNEL: u32 = 1u;

fn first_component(value: Vector) -> PerChannel {
    return value;
}

fn horizontal_sum(value: Vector) -> PerChannel {
    return value;
}

// See `opaque`.
fn opaque_vector(value: Vector) -> Vector {
    return opaque(value);
}
