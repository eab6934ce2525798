// Visits all loads from the first on: up to 64.
fn visit_all(stage: u32, first: Place) {
    place = first;
    visit_sixteen(stage, 0u);
    visit_sixteen(stage, 16u);
    visit_sixteen(stage, 32u);
    visit_sixteen(stage, 48u);
}

fn visit_sixteen(stage: u32, k: u32) {
    turn(stage, k);
    turn(stage, k + 1u);
    turn(stage, k + 2u);
    turn(stage, k + 3u);
    turn(stage, k + 4u);
    turn(stage, k + 5u);
    turn(stage, k + 6u);
    turn(stage, k + 7u);
    turn(stage, k + 8u);
    turn(stage, k + 9u);
    turn(stage, k + 10u);
    turn(stage, k + 11u);
    turn(stage, k + 12u);
    turn(stage, k + 13u);
    turn(stage, k + 14u);
    turn(stage, k + 15u);
}
