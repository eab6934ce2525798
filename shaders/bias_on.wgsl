// A learnable shift for each channel.
@group(0) @binding(5) var<storage, read> bias: array<f32>;

fn channel_bias(channel: u32) -> f32 {
    return bias[channel];
}
