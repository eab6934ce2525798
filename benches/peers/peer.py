"""What the peers that are written in Python share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

# Runs before the timed ones.
WARMUP = 5
# On the CPU, x, y, dy and dx of all inputs take about so many bytes together, so that caches do not hold them
# from one run to the next.
ROTATED_BYTES = 1 << 28


def sizes(text: str) -> tuple[int, ...]:
    """A shape, from sizes with commas between."""
    found = tuple(int(size) for size in text.split(","))
    if not 2 <= len(found) <= 5 or min(found) < 1:
        raise ValueError(text)
    return found


def inputs_on_cpu(shape: Sequence[int], element_bytes: int) -> int:
    """How many inputs of the shape are walked through."""
    return min(max(ROTATED_BYTES // (4 * element_bytes * math.prod(shape)), 1), 8)


def wall_times(passes: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """Milliseconds of each run, by the wall clock, sorted. Each run takes the next of the passes."""
    times = []
    for k in range(-WARMUP, runs):
        run = passes[k % len(passes)]
        started = time.perf_counter()
        results = run()
        elapsed = time.perf_counter() - started
        # Outside the time: giving memory back is none of the pass.
        del results
        if k >= 0:
            times.append(elapsed * 1e3)
    return sorted(times)
