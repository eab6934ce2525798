// needs: Cursor, Place

// A lane has one column, of one channel. (In planes, what it visits counts as one column.)
const COLUMNS_PER_LANE: u32 = 1u;

fn column(cursor: Cursor, place: Place, k: u32) -> Place {
    return place;
}

fn channel_of(cursor: Cursor, k: u32) -> u32 {
    return cursor.channel;
}

fn split_of(cursor: Cursor, k: u32) -> u32 {
    return cursor.split;
}
