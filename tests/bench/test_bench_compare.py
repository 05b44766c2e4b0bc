"""Ratios and waits, by numbers that can be checked by hand."""

from __future__ import annotations

import pytest
from bench.big import KEYFERRY, ONE_BY_ONE, BigResult, BigRow, Waits
from bench.big_data import BIG_KINDS, BigSize
from bench.big_report import big_section, worst_wait_goal
from bench.clusters import BASE, cluster_goals
from bench.compare import TOOL_CPU, of_rounds, ratios
from bench.samples import RowResult, Sample, Work


def test_ratios_are_of_the_same_round() -> None:
    base = RowResult("base", "alone", [_sample(1.0, 0.5), _sample(2.0, 1.0)])
    row = RowResult("row", "together", [_sample(2.0, 0.6), _sample(1.0, 1.5), _sample(1.0, 9.0)])
    assert of_rounds(row, base, "keys/s") == pytest.approx([0.5, 2.0])
    assert of_rounds(row, base, TOOL_CPU) == pytest.approx([1.2, 1.5])
    shown = ratios([base, row], {"row": "base"}).splitlines()[2]
    assert shown.startswith("| together : alone | 1.25 (0.50 – 2.00) | 1.35 (1.20 – 1.50) |")


def test_a_row_without_runs_has_no_ratios() -> None:
    assert ratios([RowResult("base", ""), RowResult("row", "")], {"row": "base"}) == ""


@pytest.mark.parametrize(("cpu_s", "reached"), [(1.25, True), (1.26, False)])
def test_the_clusters_goal_is_the_median_ratio(cpu_s: float, reached: bool) -> None:
    base = RowResult(BASE, "", [_sample(1.0, 1.0)] * 3)
    row = RowResult("row", "3 to 3", [_sample(1.0, value) for value in (9.0, cpu_s, 0.1)])
    (goal,) = cluster_goals([base, row])
    assert goal.reached is reached
    failed = RowResult("row", "3 to 3", [_sample(1.0, 1.0)], problem="failed: so", failed=True)
    assert [goal.reached for goal in cluster_goals([base, failed])] == [None]


@pytest.mark.parametrize(("worst_us", "reached"), [(10_000, True), (10_001, False)])
def test_one_long_wait_on_either_server_counts(worst_us: int, reached: bool) -> None:
    for waits in (Waits([100, worst_us], [100]), Waits([100], [worst_us, 100])):
        assert worst_wait_goal(_result([Waits([100], [100]), waits])).reached is reached


def test_a_way_that_failed_reaches_nothing() -> None:
    result = _result([Waits([100], [100])])
    result.rows[0].failed, result.rows[0].problem = True, "failed: no luck"
    assert worst_wait_goal(result).reached is None
    assert "- keyferry copy: failed: no luck" in big_section(result).body


def test_the_worst_wait_of_each_round_is_shown() -> None:
    body = big_section(_result([Waits([1_000, 4_000], [2_000]), Waits([7_000], [2_000])])).body
    lines = [line for line in body.splitlines() if line.startswith("| keyferry copy |")]
    assert lines == [
        "| keyferry copy | 2.00 | 100 | 7.00 | 4.00 – 7.00 | 2.00 | 2.00 – 2.00 | 40 |",
    ]


def _result(waits: list[Waits]) -> BigResult:
    """Keyferry's runs had these waits; another way's would break every goal."""
    work = Work(2, 2.0, tool_peak_bytes=40_000_000)
    mine = BigRow(KEYFERRY, "keyferry copy", old=False, works=[work] * len(waits), waits=waits)
    other = BigRow(ONE_BY_ONE, "DUMP and RESTORE", old=False, works=[work], waits=[Waits([99_000], [99_000])])
    rest = Waits([50], [60])
    return BigResult(BIG_KINDS["set"], BigSize(2, 100), rest, rest, 1.0, [mine, other])


def _sample(seconds: float, cpu_s: float) -> Sample:
    return Sample(Work(1_000, seconds, seconds, cpu_s * 2, cpu_s), 1.0, 1.0)
