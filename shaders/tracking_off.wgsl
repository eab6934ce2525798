// No running statistics.
fn move_running_statistics(channel: u32, batch: Moments) {}
