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
