// No running statistics.
fn move_running_statistics(first_channel: u32, batch: Moments) {}
