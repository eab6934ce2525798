// No shift.
fn channel_bias(channel: u32) -> f32 {
    return 0.0;
}
