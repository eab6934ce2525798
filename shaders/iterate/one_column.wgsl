// needs: Traversal

// A lane has one column, of one channel. (In planes, what it visits counts as one column.)
const COLUMNS_PER_LANE: u32 = 1u;

fn has_column(traversal: Traversal, k: u32) -> bool {
    return true;
}

fn column(element: u32, k: u32) -> u32 {
    return element;
}

fn channel_of(traversal: Traversal, k: u32) -> u32 {
    return traversal.channel;
}

fn split_of(traversal: Traversal, k: u32) -> u32 {
    return traversal.split;
}
