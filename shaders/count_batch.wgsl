// num_batches_tracked += 1, a 64-bit number as two words, the low one first.
//
// A kernel of its own, since `finalize` reads the number in many workgroups, and between those no order
// is defined.
@group(0) @binding(8) var<storage, read_write> num_batches_tracked: array<u32, 2>;

@compute @workgroup_size(1)
fn count_batch() {
    num_batches_tracked[0] += 1u;
    if num_batches_tracked[0] == 0u {
        num_batches_tracked[1] += 1u;
    }
}
