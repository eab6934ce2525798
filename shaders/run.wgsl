// A walk goes in runs.

// Elements begin, begin + step, and so on, before end, counted in Values.
struct Run {
    begin: u32,
    end: u32,
    step: u32,
}

// Where a run is after so many more loads, or its end.
fn run_stop(run: Run, element: u32, loads: u32) -> u32 {
    // The product must fit into 32 bits, for up to 64 loads.
    return element + min(run.end - element, min(run.step, 0x3ffffffu) * loads);
}
