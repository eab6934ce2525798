// Visits all loads from the first on: up to 4.
fn visit_all(stage: u32, first: Place) {
    place = first;
    turn(stage, 0u);
    turn(stage, 1u);
    turn(stage, 2u);
    turn(stage, 3u);
}
