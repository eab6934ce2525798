// uses: entry

// The merge of partial results across the lanes of a workgroup that share a channel: reduce_lanes, broadcast,
// is_leader.

// case separate:
// needs: Partial
// Each lane has a channel of its own: there is nothing to merge, and each writes its result.
fn reduce_lanes(own: Partial, invocation: Invocation) -> Partial {
    return own;
}

fn broadcast(merged: Partial, invocation: Invocation) -> Partial {
    return merged;
}

fn is_leader(invocation: Invocation) -> bool {
    return true;
}

// case rows:
// needs: Partial, merge
// Lanes lie in rows of LANES_ACROSS, and those of one column share their channels. The rows merge through workgroup
// memory, the second half into the first. The first row gets the results. The order is fixed. Lanes behind the last row
// have nothing.
const ROWS: u32 = WORKGROUP_SIZE / LANES_ACROSS;

var<workgroup> sh_partials: array<Partial, WORKGROUP_SIZE>;

fn reduce_lanes(own: Partial, invocation: Invocation) -> Partial {
    let lane = invocation.lane;
    sh_partials[lane] = own;
    for (var rows = ROWS; rows > 1u; rows = (rows + 1u) / 2u) {
        let half = (rows + 1u) / 2u;
        workgroupBarrier();
        if lane / LANES_ACROSS + half < rows {
            sh_partials[lane] = merge(sh_partials[lane], sh_partials[lane + half * LANES_ACROSS]);
        }
    }
    return sh_partials[lane];
}

// The merged result, in every lane of its column.
fn broadcast(merged: Partial, invocation: Invocation) -> Partial {
    workgroupBarrier();
    return sh_partials[invocation.lane % LANES_ACROSS];
}

fn is_leader(invocation: Invocation) -> bool {
    return invocation.lane < LANES_ACROSS;
}

// case subgroup:
// needs: Partial, merge, pack, unpack
// The workgroup has one channel. Lanes merge within each subgroup by shuffles, then subgroups merge through workgroup
// memory. Lane 0 gets the result. The workgroup is a whole number of subgroups of any size from MIN_SUBGROUP_SIZE to
// MAX_SUBGROUP_SIZE, and the order is fixed for a given size.
const MAX_SUBGROUPS: u32 = WORKGROUP_SIZE / MIN_SUBGROUP_SIZE;

var<workgroup> sh_partials: array<Partial, MAX_SUBGROUPS>;

fn reduce_lanes(own: Partial, invocation: Invocation) -> Partial {
    var merged = own;
    // Every lane makes the same trips, since all must take part in a shuffle. Reaches beyond the actual subgroup are
    // shuffled, too, and dropped.
    for (var reach = MAX_SUBGROUP_SIZE / 2u; reach > 0u; reach /= 2u) {
        let other = unpack(subgroupShuffleDown(pack(merged, 0u), reach));
        if reach < invocation.subgroup_size {
            merged = merge(merged, other);
        }
    }
    if MAX_SUBGROUPS == 1u {
        return merged;
    }
    if invocation.subgroup_lane == 0u {
        sh_partials[invocation.subgroup] = merged;
    }
    workgroupBarrier();
    if invocation.lane == 0u {
        merged = sh_partials[0];
        for (var subgroup = 1u; subgroup < invocation.num_subgroups; subgroup++) {
            merged = merge(merged, sh_partials[subgroup]);
        }
    }
    return merged;
}

// The merged result, in every lane.
fn broadcast(merged: Partial, invocation: Invocation) -> Partial {
    if MAX_SUBGROUPS == 1u {
        return unpack(subgroupBroadcastFirst(pack(merged, 0u)));
    }
    workgroupBarrier();
    if invocation.lane == 0u {
        sh_partials[0] = merged;
    }
    workgroupBarrier();
    return sh_partials[0];
}

fn is_leader(invocation: Invocation) -> bool {
    return invocation.lane == 0u;
}
