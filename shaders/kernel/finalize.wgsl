// uses: entry, iterate/partials, forward/finish_channel

// Merges the partial moments of every channel into its statistics, and moves the running statistics.

fn kernel(invocation: Invocation) {
    let result = merged_channel(invocation);
    if result.is_valid {
        finish_channel(result.channel, result.merged);
    }
}
