// Which values an invocation visits when channels are neighbours (inner = 1): x[o, c] is element
// o * channels + c. Invocation t takes channel t % channels and every so many rows, beginning with row
// t / channels: element t, t + splits * channels, and so on. Neighbouring invocations always read
// neighbouring elements, and each keeps to one channel.
struct Walk {
    channel: u32,
    split: u32,
    run: Run,
}

// Elements begin, begin + step, and so on, before end.
struct Run {
    begin: u32,
    end: u32,
    step: u32,
}

fn walk_begin(workgroup: u32, lane: u32, splits: Splits) -> Walk {
    let invocation = workgroup * WORKGROUP_SIZE + lane;
    var walk: Walk;
    walk.channel = invocation % params.channels;
    walk.split = invocation / params.channels;
    if walk.split < splits.count {
        walk.run = Run(invocation, params.outer * params.channels, splits.count * params.channels);
    }
    return walk;
}

fn walk_goes_on(walk: Walk) -> bool {
    return walk.run.begin < walk.run.end;
}

// All of it is one run.
fn walk_run(walk: ptr<function, Walk>) -> Run {
    let run = (*walk).run;
    (*walk).run.end = 0u;
    return run;
}
