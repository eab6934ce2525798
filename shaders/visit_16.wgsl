// Visits all loads from the first on: up to 16.
fn visit_all(stage: u32, first: Place) {
    place = first;
    turn(stage, 0u);
    turn(stage, 1u);
    turn(stage, 2u);
    turn(stage, 3u);
    turn(stage, 4u);
    turn(stage, 5u);
    turn(stage, 6u);
    turn(stage, 7u);
    turn(stage, 8u);
    turn(stage, 9u);
    turn(stage, 10u);
    turn(stage, 11u);
    turn(stage, 12u);
    turn(stage, 13u);
    turn(stage, 14u);
    turn(stage, 15u);
}
