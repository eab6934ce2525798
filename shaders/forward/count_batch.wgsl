// needs: num_batches_tracked

// num_batches_tracked += 1, a 64-bit number as two words, the low one first.
fn count_one_batch() {
    num_batches_tracked[0] += 1u;
    if num_batches_tracked[0] == 0u {
        num_batches_tracked[1] += 1u;
    }
}
