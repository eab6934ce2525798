// No shift.
fn channel_bias(channel: u32) -> Number {
    return Number(0.0);
}
