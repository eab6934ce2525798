// A learnable scale and shift for each channel.
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;

fn channel_weight(channel: u32) -> f32 {
    return weight[channel];
}

fn channel_bias(channel: u32) -> f32 {
    return bias[channel];
}
