"""Tests of the tables' arithmetic: python3 -m unittest discover benches/peers"""

import unittest

from comparison import (
    OURS,
    Shape,
    Timing,
    digits,
    markdown,
    over_rounds,
    rows_of,
    summaries_of,
    timing_of_peer,
    timings_of_ours,
)

SMALL = Shape((8, 64, 7, 7), "channels-first")
LARGE = Shape((8, 112, 112, 64), "channels-last")


def timing(
    program: str, milliseconds: float, shape: Shape = SMALL, clock: str = "wall", right: bool = True
) -> Timing:
    return Timing(program, shape, "forward_eval", clock, milliseconds, right)


class Reading(unittest.TestCase):
    def test_our_report_has_both_clocks(self):
        case = {
            "shape": [8, 64, 7, 7],
            "layout": "channels-first",
            "pass": "forward_eval",
            "median_ms": 2.0,
            "wall_ms": 3.0,
        }
        found = timings_of_ours({"cases": [case]})
        self.assertEqual(found, [timing(OURS, 3.0), timing(OURS, 2.0, clock="device")])

    def test_a_line_of_a_peer(self):
        line = {
            "shape": [8, 112, 112, 64],
            "layout": "channels-last",
            "pass": "forward_eval",
            "clock": "device",
            "median_ms": 4.0,
            "min_ms": 3.0,
            "right": False,
        }
        self.assertEqual(timing_of_peer("burn", line), timing("burn", 4.0, LARGE, "device", right=False))


class Arithmetic(unittest.TestCase):
    def test_the_median_of_the_rounds_counts(self):
        rounds = [timing("burn", 5.0), timing("burn", 100.0), timing("burn", 6.0), timing("burn", 1.0, LARGE)]
        self.assertEqual(over_rounds(rounds), [timing("burn", 6.0), timing("burn", 1.0, LARGE)])

    def test_one_wrong_round_makes_all_wrong(self):
        rounds = [timing("burn", 5.0), timing("burn", 5.0, right=False)]
        self.assertFalse(over_rounds(rounds)[0].right)

    def test_each_clock_is_compared_with_the_same(self):
        [row] = rows_of(
            [
                timing(OURS, 4.0),
                timing(OURS, 2.0, clock="device"),
                timing("burn", 8.0),
                timing("PyTorch", 1.0, clock="device"),
            ]
        )
        self.assertEqual(
            {peer: cell.ratio for peer, cell in row.peers.items()}, {"burn": 2.0, "PyTorch": 0.5}
        )

    def test_without_our_time_there_is_no_ratio(self):
        [row] = rows_of([timing("burn", 8.0)])
        self.assertIsNone(row.peers["burn"].ratio)
        self.assertEqual(summaries_of([row], ["burn"]), [])

    def test_the_worst_ratio_is_the_least(self):
        rows = rows_of(
            [timing(OURS, 1.0), timing("burn", 8.0), timing(OURS, 1.0, LARGE), timing("burn", 0.5, LARGE)]
        )
        [summary] = summaries_of(rows, ["burn", "PyTorch"])
        self.assertAlmostEqual(summary.mean, 2.0)
        self.assertEqual((summary.shapes, summary.worst, summary.worst_shape), (2, 0.5, LARGE))

    def test_wrong_results_do_not_count(self):
        rows = rows_of(
            [
                timing(OURS, 1.0),
                timing("burn", 8.0),
                timing(OURS, 1.0, LARGE),
                timing("burn", 0.5, LARGE, right=False),
            ]
        )
        [summary] = summaries_of(rows, ["burn"])
        self.assertEqual((summary.shapes, summary.worst, summary.worst_shape), (1, 8.0, SMALL))
        self.assertAlmostEqual(summary.mean, 8.0)


class Writing(unittest.TestCase):
    def test_three_digits(self):
        for value, text in ((1234.5, "1234"), (12.34, "12.3"), (0.00256, "0.00256"), (0.0, "0")):
            self.assertEqual(digits(value), text)
        self.assertEqual(digits(None), "")

    def test_the_report(self):
        timings = [
            timing(OURS, 2.0),
            timing(OURS, 1.0, clock="device"),
            timing("burn", 8.0, right=False),
            timing(OURS, 2.0, LARGE),
            timing("PyTorch", 3.0, LARGE),
        ]
        report = markdown({"date": "today"}, timings, ["burn failed"])
        for line in (
            "| date | today |",
            "| shape | pass | ours, wall clock | burn | ratio | PyTorch | ratio |",
            "| 8×64×7×7 | forward_eval | 2.00 | 8.00 † | 4.00 |  |  |",
            "| 8×112×112×64, channels last | forward_eval | 2.00 |  |  | 3.00 | 1.50 |",
            "| forward_eval | PyTorch | 8×112×112×64, channels last | 1 | 1.50 | 1.50 |",
            "- burn failed",
        ):
            self.assertIn(line, report.splitlines())
        self.assertIn("† ", report)


if __name__ == "__main__":
    unittest.main()
