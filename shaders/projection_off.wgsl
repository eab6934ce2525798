// What dx needs of the sums is not left for later.
fn store_projection(first_channel: u32, sums: Sums, of_channel: Statistics) {}
