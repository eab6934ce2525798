// uses: data/per_channel

// Vector: the elements that are loaded and computed at once.

// case scalar:
// uses: numerics/float_float
// One element.
alias Vector = f32;

// Its bits, and a condition for each element.
alias VectorBits = u32;
alias VectorMask = bool;

// The elements of a Vector, and how many of them belong to one channel.
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
// Four neighbouring elements of a plane: all of one channel.
alias Vector = vec4<f32>;

// Its bits, and a condition for each element.
alias VectorBits = vec4<u32>;
alias VectorMask = vec4<bool>;

// The elements of a Vector, and how many of them belong to one channel.
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
// Four neighbouring elements of a row: each of another channel.
alias Vector = PerChannel;

// Its bits, and a condition for each element.
alias VectorBits = vec4<u32>;
alias VectorMask = vec4<bool>;

// The elements of a Vector, and how many of them belong to one channel.
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
