// needs: num_batches_tracked

// num_batches_tracked += 1: a number of 64 bits in two words, the low one first.
fn count_one_batch() {
    num_batches_tracked[0] += 1u;
    if num_batches_tracked[0] == 0u {
        num_batches_tracked[1] += 1u;
    }
}
