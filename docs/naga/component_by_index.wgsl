// HLSL by FXC: data[0] = (NaN, 1, 2, 3) gives four times NaN.
@group(0) @binding(0) var<storage, read_write> data: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> parts: array<f32>;

@compute @workgroup_size(4)
fn main(@builtin(local_invocation_index) lane: u32) {
    let value = data[0];
    parts[lane] = value[lane];
}
