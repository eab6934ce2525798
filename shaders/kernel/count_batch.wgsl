// uses: forward/count_batch

// Counts a batch. A kernel of its own where the number is read in many workgroups, since between those no
// order is defined, and where a batch is empty.
@group(0) @binding(8) var<storage, read_write> num_batches_tracked: array<u32, 2>;

@compute @workgroup_size(1)
fn main() {
    count_one_batch();
}
