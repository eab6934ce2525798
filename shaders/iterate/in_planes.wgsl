// uses: data/params
// includes: iterate/one_column
// needs: Cursor, LOAD_WIDTH, loads_of_plane, enter_plane

// Channels lie in planes: x[o, c, i] is element (o * channels + c) * inner + i. A channel's planes are one run of
// loads. A workgroup takes one split of it, all lanes side by side, from plane to plane, so that no lane is idle before
// the end.

// A case defines how many loads a plane has (loads_of_plane), and sets where the cursor is in memory and how far it
// goes (enter_plane). All lanes together make as many loads as `planes` planes have, and `step_along` more.
fn cursor_begin(workgroup: u32, lane: u32, splits: Splits) -> Cursor {
    let length = loads_of_plane();
    let split = workgroup / params.group_channels;
    let begin = split * splits.chunk + lane;
    let end = min((split + 1u) * splits.chunk, params.outer * length);
    let plane = begin / length;
    let planes = WORKGROUP_SIZE / length;
    var cursor: Cursor;
    cursor.channel = params.first_channel + workgroup - split * params.group_channels;
    cursor.split = split;
    cursor.along = begin - plane * length;
    cursor.step_along = WORKGROUP_SIZE - planes * length;
    enter_plane(&cursor, plane, planes);
    if split < splits.count && begin < end {
        cursor.loads = (end - begin + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
    } else {
        cursor.spare = cursor.channel * params.inner / LOAD_WIDTH;
    }
    return cursor;
}

// The number of workgroups that visit a group of channels.
fn workgroups_of(splits: Splits) -> u32 {
    return splits.count * params.group_channels;
}
