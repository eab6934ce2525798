// uses: forward/count_batch

// Counts a batch. This is a kernel of its own if many workgroups read the number, since their order is not defined, and
// if the batch is empty.
@group(0) @binding(8) var<storage, read_write> num_batches_tracked: array<u32, 2>;

@compute @workgroup_size(1)
fn main() {
    count_one_batch();
}
