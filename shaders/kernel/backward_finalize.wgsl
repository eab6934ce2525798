// uses: entry, iterate/partials, statistics/source, backward/finish_channel

// Merges the partial sums of every channel into the gradients of its parameters, and into what `backward_input` needs.

fn kernel(invocation: Invocation) {
    let result = merged_channel(invocation);
    if result.is_valid {
        finish_channel(result.channel, result.merged, channel_statistics(result.channel, invocation, false));
    }
}
