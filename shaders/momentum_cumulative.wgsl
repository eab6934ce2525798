// The cumulative average: every batch weighs the same. This one was counted already, by `count_batch`.
@group(0) @binding(8) var<storage, read> num_batches_tracked: array<u32, 2>;

fn tracking_momentum(first_channel: u32) -> Momentum {
    let batches = f32(num_batches_tracked[1]) * 4294967296.0 + f32(num_batches_tracked[0]);
    return Momentum(1.0 / batches, (batches - 1.0) / batches);
}
