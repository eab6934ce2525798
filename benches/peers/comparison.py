"""What the programs measured, and the tables made of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

OURS = "wgpu-batchnorm"
PASSES = ("forward_train", "forward_eval", "backward", "forward_backward")


@dataclass(frozen=True)
class Shape:
    """Sizes as they lie in memory, and where among them the channels are."""

    sizes: tuple[int, ...]
    layout: str

    def __str__(self) -> str:
        return "×".join(map(str, self.sizes)) + ("" if self.layout == "channels-first" else ", channels last")


@dataclass(frozen=True)
class Timing:
    """What one program took for one pass on one shape, by the wall clock or the device's."""

    program: str
    shape: Shape
    pass_name: str
    clock: str
    milliseconds: float
    right: bool = True


@dataclass(frozen=True)
class Cell:
    """A peer's time beside ours by the same clock. The ratio is the peer's time divided by ours."""

    milliseconds: float
    ratio: float | None
    right: bool


@dataclass(frozen=True)
class Row:
    """A pass on a shape: our times by clock, and the peers' cells by name."""

    shape: Shape
    pass_name: str
    ours: dict[str, float]
    peers: dict[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """A peer's ratios in one pass over all shapes where its results are right."""

    pass_name: str
    peer: str
    shapes: int
    mean: float
    worst: float
    worst_shape: Shape


def timings_of_ours(report: dict) -> list[Timing]:
    """Both clocks of each case in the report of our `bench`."""
    return [
        Timing(OURS, Shape(tuple(case["shape"]), case["layout"]), case["pass"], clock, case[key])
        for case in report["cases"]
        for clock, key in (("wall", "wall_ms"), ("device", "median_ms"))
    ]


def timing_of_peer(program: str, line: dict) -> Timing:
    """A JSON line that a peer printed."""
    shape = Shape(tuple(line["shape"]), line["layout"])
    return Timing(program, shape, line["pass"], line["clock"], line["median_ms"], line["right"])


def over_rounds(timings: Iterable[Timing]) -> list[Timing]:
    """For each program, shape, pass and clock the median; right only if each round was."""
    groups: dict[tuple, list[Timing]] = {}
    for timing in timings:
        key = (timing.program, timing.shape, timing.pass_name, timing.clock)
        groups.setdefault(key, []).append(timing)
    return [
        Timing(*key, statistics.median(t.milliseconds for t in group), all(t.right for t in group))
        for key, group in groups.items()
    ]


def rows_of(timings: Iterable[Timing]) -> list[Row]:
    """A row for each shape and pass, shapes in the order in which they come, passes in that of PASSES."""
    timings = over_rounds(timings)
    found: dict[tuple[Shape, str], Row] = {}
    for shape in dict.fromkeys(timing.shape for timing in timings):
        for pass_name in PASSES:
            here = [t for t in timings if (t.shape, t.pass_name) == (shape, pass_name)]
            if not here:
                continue
            ours = {t.clock: t.milliseconds for t in here if t.program == OURS}
            row = found[shape, pass_name] = Row(shape, pass_name, ours)
            for t in here:
                if t.program != OURS:
                    ratio = t.milliseconds / ours[t.clock] if t.clock in ours else None
                    row.peers[t.program] = Cell(t.milliseconds, ratio, t.right)
    return list(found.values())


def summaries_of(rows: Sequence[Row], peers: Sequence[str]) -> list[Summary]:
    """Geometric mean and least ratio of each peer in each pass. Wrong results do not count."""
    summaries = []
    for pass_name in PASSES:
        for peer in peers:
            ratios = [
                (cell.ratio, row.shape)
                for row in rows
                if row.pass_name == pass_name and (cell := row.peers.get(peer)) and cell.right and cell.ratio
            ]
            if ratios:
                mean = statistics.geometric_mean(ratio for ratio, _ in ratios)
                worst, shape = min(ratios, key=lambda pair: pair[0])
                summaries.append(Summary(pass_name, peer, len(ratios), mean, worst, shape))
    return summaries


def digits(value: float | None) -> str:
    """Three significant digits, without an exponent; nothing for None."""
    if value is None:
        return ""
    decimals = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(decimals, 0)}f}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A Markdown table, its first columns aligned to the left and all others to the right."""
    rule = ["---" if k < left else "---:" for k in range(len(columns))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, rule, *rows)) + "\n"


def times_table(rows: Sequence[Row], peers: Sequence[str], clocks: Sequence[str]) -> str:
    """Milliseconds of all programs, and ratios of the peers."""
    names = {"wall": "ours, wall clock", "device": "ours, device clock"}
    columns = ["shape", "pass", *(names[clock] for clock in clocks)]
    for peer in peers:
        columns += [peer, "ratio"]
    lines = []
    for row in rows:
        line = [str(row.shape), row.pass_name, *(digits(row.ours.get(clock)) for clock in clocks)]
        for peer in peers:
            cell = row.peers.get(peer, Cell(None, None, True))
            line += [digits(cell.milliseconds) + ("" if cell.right else " †"), digits(cell.ratio)]
        lines.append(line)
    return table(columns, lines, left=2)


def summary_table(summaries: Sequence[Summary]) -> str:
    """Means and worst ratios."""
    columns = ["pass", "peer", "worst at", "shapes", "geometric mean", "worst ratio"]
    lines = [
        [s.pass_name, s.peer, str(s.worst_shape), str(s.shapes), digits(s.mean), digits(s.worst)]
        for s in summaries
    ]
    return table(columns, lines, left=3)


def markdown(about: dict[str, str], timings: Sequence[Timing], failures: Sequence[str]) -> str:
    """The whole report."""
    rows = rows_of(timings)
    peers = [name for name in dict.fromkeys(t.program for t in timings) if name != OURS]
    clocks = sorted({t.clock for t in timings if t.program != OURS}, reverse=True) or ["wall", "device"]
    parts = [
        "# Batch norm beside its peers\n",
        table(["", ""], about.items(), left=2),
        "Milliseconds: the median of a round's runs, and of that the median of all rounds. A ratio is the "
        "peer's time divided by ours: above 1, the peer takes longer. What the host's clock times, from "
        "submission to completion (burn; PyTorch and ONNX Runtime on the CPU), is compared with our wall "
        "clock; what CUDA events time, with our device clock.\n",
        times_table(rows, peers, clocks),
    ]
    if any(not cell.right for row in rows for cell in row.peers.values()):
        parts.append("† The results of this run are wrong; it does not count below.\n")
    parts.append(summary_table(summaries_of(rows, peers)))
    if failures:
        parts.append("\n".join(f"- {failure}" for failure in failures) + "\n")
    return "\n".join(parts)
