// HLSL: DXC has a namespace `dx`.
@group(0) @binding(0) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    dx[id.x] = 2.0 * dx[id.x];
}
