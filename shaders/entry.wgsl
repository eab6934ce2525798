// uses: data/params
// needs: kernel

// Where every kernel begins: the entry point, which calls the kernel.

// case plain:
// Builtins are arguments, not members of a struct, and the workgroup's number is computed here: in naga's HLSL,
// num_workgroups of a struct that a function gets is the workgroup's id (docs/naga.md).
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

// case subgroups:
// The same for kernels that use subgroups. In naga's HLSL, subgroup builtins must be arguments, too: as members of a
// struct they have no semantic (docs/naga.md).
struct Invocation {
    // The number of the workgroup, and of the invocation in it.
    workgroup: u32,
    lane: u32,
    // The number of the subgroup in the workgroup, and of the invocation in it.
    subgroup: u32,
    subgroup_lane: u32,
    num_subgroups: u32,
    subgroup_size: u32,
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @builtin(num_subgroups) num_subgroups: u32,
    @builtin(subgroup_size) subgroup_size: u32,
) {
    params = uniform_params;
    let number = linear_workgroup(workgroup, grid);
    kernel(Invocation(number, lane, subgroup, subgroup_lane, num_subgroups, subgroup_size));
}
