// uses: iterate/traversal

// Several loads at once: next_places.

// Up to four places: LOADS_AT_ONCE of them.
struct Places {
    a: Place,
    b: Place,
    c: Place,
    d: Place,
}

fn next_places(cursor: ptr<function, Cursor>) -> Places {
    var places: Places;
    places.a = next_place(cursor);
    if LOADS_AT_ONCE == 4u {
        places.b = next_place(cursor);
        places.c = next_place(cursor);
        places.d = next_place(cursor);
    }
    return places;
}
