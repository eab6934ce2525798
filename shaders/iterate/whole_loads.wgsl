// uses: data/per_channel, data/vector
// needs: Cursor, Place

// Loads all of whose elements are of the invocation's own channels.
const MASKED: bool = false;

fn present_place(cursor: Cursor) -> Place {
    let is_there = cursor.loads > 0u;
    return Place(select(cursor.spare, cursor.element, is_there), is_there, 0u, false);
}

fn next_channel(channel: u32) -> u32 {
    return channel;
}

fn first_inside(value: Vector, place: Place) -> PerChannel {
    return first_component(value);
}

// How many values of one channel a load has.
fn values_inside(place: Place) -> u32 {
    return select(0u, VALUES_OF_CHANNEL, place.is_there);
}

fn inside_or_zero(value: Vector, place: Place) -> Vector {
    return select(Vector(0.0), value, place.is_there);
}

fn inside_or(other: Vector, value: Vector, place: Place) -> Vector {
    return value;
}

// Whether the lane writes the load.
fn is_written(place: Place) -> bool {
    return place.is_there;
}
