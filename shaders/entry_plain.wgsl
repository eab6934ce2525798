// Where every kernel begins: the entry point, which calls the kernel.
//
// What the hardware tells is taken as arguments, not as a struct, and the workgroup's number is computed here: in
// naga's HLSL, num_workgroups from a struct that is handed on is the workgroup's id (docs/naga.md).
struct Invocation {
    // The number of the workgroup, and of the invocation in it.
    workgroup: u32,
    lane: u32,
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    params = uniform_params;
    kernel(Invocation(linear_workgroup(workgroup, grid), lane));
}
