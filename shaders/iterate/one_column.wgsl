// needs: Walk

// An invocation visits one place at a time, of one channel.
const ABREAST: u32 = 1u;

fn has_beside(walk: Walk, k: u32) -> bool {
    return true;
}

fn beside(element: u32, k: u32) -> u32 {
    return element;
}

fn walk_channel(walk: Walk, k: u32) -> u32 {
    return walk.channel;
}

fn walk_split(walk: Walk, k: u32) -> u32 {
    return walk.split;
}
