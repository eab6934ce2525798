// The shares of the batch and of what was there in a running average.
struct Momentum {
    of_batch: f32,
    retain: f32,
}
