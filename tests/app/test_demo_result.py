"""What the demo says at its end, and when it says that all is well."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyferry.app.demo_result import Result, Seen, result_lines
from keyferry.testing.service_crowd import Counted, Tally

WELL = Result(
    Counted(900, 0, 0, 0, (), ()),
    Tally(1_000, 300, 0, 0, 0),
    [Seen("cutover", 12.34, 15.6, 4), Seen("rollback", None, 3.0, 0)],
    [1_000_000] * 998 + [4_500_000, 68_000_000],
)


def said(result: Result) -> list[str]:
    return [text.plain for text in result_lines(result)]


def test_a_row_for_each_switch_and_one_for_comparison() -> None:
    lines = said(WELL)
    assert lines[2].split() == ["cutover", "12.3", "ms", "15.6", "ms"]
    assert lines[3].split() == ["rollback", "-", "3.0", "ms"]
    assert lines[4].split()[:4] == ["no", "switch", "68.0", "ms"]
    assert lines[4].endswith("(999 of 1,000 below 4.5 ms)")
    assert lines[5:] == [
        "1,000 acknowledged writes, counted one by one: 0 lost, 0 doubled.",
        "300 reads: 0 stale. 0 errors.",
    ]
    assert WELL.well


@pytest.mark.parametrize(
    "result",
    [
        replace(WELL, counted=Counted(900, 1, 0, 0, ("a: 1 instead of 2",), ())),
        replace(WELL, counted=Counted(900, 0, 1, 0, ("a: 2 instead of 1",), ())),
        replace(WELL, counted=Counted(900, 0, 0, 0, ("a: another order",), ())),
        replace(WELL, tally=Tally(1_000, 300, 1, 0, 0)),
        replace(WELL, tally=Tally(1_000, 300, 0, 1, 0)),
        replace(WELL, tally=Tally(1_000, 300, 0, 0, 1)),
    ],
)
def test_whatever_is_wrong_is_not_well(result: Result) -> None:
    assert not result.well
    assert said(result)[7:] == [f"  {finding}" for finding in result.counted.findings]
