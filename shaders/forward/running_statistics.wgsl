// The running statistics: move_running_statistics.

// case none:
// uses: forward/moments
// No running statistics.
fn move_running_statistics(first_channel: u32, batch: Moments) {}

// case momentum:
// uses: data/params, forward/count_batch, forward/move_running
// The momentum is given. The invocation that has the first channel counts the batch.
@group(0) @binding(8) var<storage, read_write> num_batches_tracked: array<u32, 2>;

fn running_momentum(first_channel: u32) -> Momentum {
    if first_channel == 0u {
        count_one_batch();
    }
    return Momentum(params.momentum, params.retain);
}

// case cumulative:
// uses: forward/move_running
// The cumulative average: every batch has the same weight. `count_batch` has counted this one.
@group(0) @binding(8) var<storage, read> num_batches_tracked: array<u32, 2>;

fn running_momentum(first_channel: u32) -> Momentum {
    let batches = f32(num_batches_tracked[1]) * 4294967296.0 + f32(num_batches_tracked[0]);
    return Momentum(1.0 / batches, (batches - 1.0) / batches);
}
