// HLSL and MSL: the first invocation clears all of `shared_sums`, and FXC takes minutes to compile that.
struct Sums {
    count: u32,
    mean: vec4<f32>,
    error: vec4<f32>,
    squares: vec4<f32>,
}

var<workgroup> shared_sums: array<Sums, 256>;

@group(0) @binding(0) var<storage, read_write> data: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    shared_sums[lane] = Sums(1u, data[lane], vec4<f32>(), vec4<f32>());
    for (var reach = 128u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            shared_sums[lane].mean += shared_sums[lane + reach].mean;
            shared_sums[lane].count += shared_sums[lane + reach].count;
        }
    }
    data[lane] = shared_sums[lane].mean / f32(shared_sums[lane].count);
}
