// A learnable scale for each channel.
@group(0) @binding(4) var<storage, read> weight: array<f32>;

fn channel_weight(channel: u32) -> f32 {
    return weight[channel];
}
