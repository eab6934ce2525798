// HLSL: the member `size` has no semantic.
struct Input {
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(subgroup_size) size: u32,
}

@group(0) @binding(0) var<storage, read_write> data: array<u32>;

@compute @workgroup_size(64)
fn main(input: Input) {
    data[input.id.x] = input.size;
}
