// HLSL: `width` returns the workgroup's id.
struct Input {
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
}

@group(0) @binding(0) var<storage, read_write> data: array<u32>;

fn width(input: Input) -> u32 {
    return input.grid.x;
}

@compute @workgroup_size(64)
fn main(input: Input) {
    data[input.id.x] = width(input);
}
