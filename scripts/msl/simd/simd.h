// Part of metal_stdlib beside it.
