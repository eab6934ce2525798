// No scale.
fn channel_weight(channel: u32) -> Number {
    return Number(1.0);
}
