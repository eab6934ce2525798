// No scale.
fn channel_weight(channel: u32) -> f32 {
    return 1.0;
}
