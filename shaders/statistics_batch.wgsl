// The batch's own statistics, as `finalize` left them.
@group(0) @binding(3) var<storage, read> statistics: array<Statistics>;

fn channel_statistics(channel: u32) -> Statistics {
    return statistics[channel];
}
