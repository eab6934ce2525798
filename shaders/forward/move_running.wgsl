// uses: data/params, data/per_channel, forward/moments
// needs: running_momentum

// The weights of the batch and of the present value in a running average.
struct Momentum {
    of_batch: f32,
    retain: f32,
}

// running = (1 - momentum) * running + momentum * batch.
@group(0) @binding(6) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(7) var<storage, read_write> running_var: array<f32>;

fn move_running_statistics(first_channel: u32, batch: Moments) {
    let momentum = running_momentum(first_channel);
    // Unbiased.
    let variance = weighted_variance(batch, batch.count - 1u, 1.0);
    let weighted = weighted_variance(batch, batch.count - 1u, momentum.of_batch);
    for (var k = 0u; k < CHANNELS_PER_VECTOR; k++) {
        let channel = first_channel + k;
        let mean = vec2<f32>(component(batch.mean.hi, k), component(batch.mean.lo, k));
        let is_skipped = params.skip_non_finite != 0u && !(is_finite(mean.x) && is_finite(component(variance, k)));
        if is_skipped || !is_own(first_channel, k) {
            continue;
        }
        running_mean[channel] =
            momentum.retain * running_mean[channel] + momentum.of_batch * mean.x + momentum.of_batch * mean.y;
        running_var[channel] = momentum.retain * running_var[channel] + component(weighted, k);
    }
}
