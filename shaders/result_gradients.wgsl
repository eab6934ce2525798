// The only split's result is the channel's.
fn store_result(split: u32, channel: u32, result: Partial) {
    conclude(channel, result, channel_statistics(channel));
}
