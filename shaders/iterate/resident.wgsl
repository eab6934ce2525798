// uses: iterate/tile
// needs: visit

// The loads of an invocation that holds what it has read in registers, so that memory is read once. Registers have
// no numbers to compute, and with a loop over the loads some compilers would keep the values in memory. Hence
// `visit_all` has one call after the other, of which the first HELD do something; files of several lengths have it,
// since calls that do nothing take time to compile, too.

// Where the present load is.
var<private> place: Place;

fn turn(stage: u32, k: u32) {
    if k < HELD {
        if k < place.loads {
            visit(stage, k);
        }
        place_next();
    }
}

// case up_to_4:
// Visits all loads from the first on: up to 4.
fn visit_all(stage: u32, first: Place) {
    place = first;
    turn(stage, 0u);
    turn(stage, 1u);
    turn(stage, 2u);
    turn(stage, 3u);
}

// case up_to_16:
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

// case up_to_64:
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
