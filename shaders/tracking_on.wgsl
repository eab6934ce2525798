// running = (1 - momentum) * running + momentum * batch.
@group(0) @binding(6) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(7) var<storage, read_write> running_var: array<f32>;
@group(0) @binding(8) var<storage, read> num_batches_tracked: array<u32, 2>;

fn move_running_statistics(channel: u32, batch: Moments) {
    let unbiased_variance = batch.m2 / f32(batch.count - 1u);
    if params.skip_non_finite != 0u && !(is_finite(batch.mean_hi) && is_finite(unbiased_variance)) {
        return;
    }
    var momentum = params.momentum;
    var retain = params.retain;
    if params.cumulative_average != 0u {
        // This batch was counted already.
        let batches = f32(num_batches_tracked[1]) * 4294967296.0 + f32(num_batches_tracked[0]);
        momentum = 1.0 / batches;
        retain = (batches - 1.0) / batches;
    }
    running_mean[channel] = retain * running_mean[channel] + momentum * batch.mean_hi + momentum * batch.mean_lo;
    running_var[channel] = retain * running_var[channel] + momentum * unbiased_variance;
}
