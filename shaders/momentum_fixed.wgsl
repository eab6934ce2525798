// The momentum is given. num_batches_tracked is counted on the way, by whoever has the first channel.
@group(0) @binding(8) var<storage, read_write> num_batches_tracked: array<u32, 2>;

fn tracking_momentum(first_channel: u32) -> Momentum {
    if first_channel == 0u {
        count_one_batch();
    }
    return Momentum(params.momentum, params.retain);
}
