"""Charts of a report: ticks are round, few and in place, lines end where no process ran."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from keyferry.app.report_charts import (
    LEFT,
    RIGHT,
    TICKS_MAX,
    WIDTH,
    TimeAxis,
    charts,
    lanes,
    pauses_in,
    short,
    time_ticks,
    value_ticks,
)

TIMES = st.integers(1_600_000_000_000, 2_000_000_000_000)
NOON = 1_700_049_600_000


@given(TIMES, st.integers(1, 10 * 366 * 86_400_000))
def test_moments_are_few_in_order_and_in_time(from_ms: int, length_ms: int) -> None:
    ticks = [at_ms for at_ms, _ in time_ticks(from_ms, from_ms + length_ms)]
    assert len(ticks) <= TICKS_MAX + 1
    assert all(from_ms <= at_ms <= from_ms + length_ms for at_ms in ticks)
    assert len({b - a for a, b in itertools.pairwise(ticks)}) <= 1
    if length_ms >= 10_000:
        assert len(ticks) >= 2


def test_moments_have_round_names() -> None:
    labels = [label for _, label in time_ticks(NOON - 20_000, NOON + 500_000)]
    assert labels == [f"12:{2 * minute:02}" for minute in range(5)]
    assert "Nov 16" in [label for _, label in time_ticks(NOON, NOON + 20 * 3_600_000)]


@given(st.floats(1e-3, 1e12))
def test_values_fit_and_are_few(highest: float) -> None:
    ticks = value_ticks(highest)
    assert ticks[0] == 0
    assert highest * 0.998 <= ticks[-1] <= highest * 2.6
    assert 2 <= len(ticks) <= 6


def test_numbers_on_an_axis_are_short() -> None:
    said = [short(number) for number in (0, 0.25, 12, 1500, 20_000, 2_500_000, 3e9)]
    assert said == ["0", "0.25", "12", "1,500", "20K", "2.5M", "3G"]


@given(TIMES, st.lists(st.integers(0, 10**9), min_size=1))
def test_everything_stays_in_the_picture(from_ms: int, after_ms: list[int]) -> None:
    axis = TimeAxis(from_ms, from_ms + max(after_ms))
    assert all(LEFT <= axis.x(from_ms + after) <= WIDTH - RIGHT for after in after_ms)


def test_a_line_is_cut_where_no_process_ran() -> None:
    history = {
        "every_s": 1.0,
        "columns": ["at_ms", "lag_s", "source_latency_ms", "target_latency_ms"],
        "rows": [
            [0, 1.0, None, None],
            [1000, 2.0, 3.0, None],
            [9000, 0.5, None, None],
            [10_000, 0.5, 2.0, None],
        ],
    }
    timeline = [
        {"stage": "following", "from_ms": 0, "to_ms": 1000},
        {"stage": "following", "from_ms": 9000, "to_ms": 10_000},
    ]
    assert pauses_in(timeline) == [(1000, 9000)]
    axis = TimeAxis(0, 10_000)
    (lag, latency), quiet = charts(history, axis, pauses_in(timeline))
    assert quiet == []
    assert lag.key == "lag" and lag.series[0].line.count("M") == 2
    assert lag.note == "typically 1.00 s; highest 2.00 s, at 00:00:01"
    assert charts(history, axis, [])[0][0].series[0].line.count("M") == 1
    assert [series.label for series in latency.series] == ["source"]


def test_what_was_0_all_the_time_is_said_and_not_drawn() -> None:
    history = {"columns": ["at_ms", "lag_s", "dirty_keys"], "rows": [[0, 0.0, None], [1000, 0.0, None]]}
    assert charts(history, TimeAxis(0, 1000), []) == ([], ["Lag, in seconds"])


def test_a_stage_that_was_short_is_still_seen() -> None:
    timeline = [
        {"stage": "copying", "from_ms": 0, "to_ms": 1},
        {"stage": "following", "from_ms": 1, "to_ms": 10**9},
    ]
    copying, following = lanes(timeline, TimeAxis(0, 10**9), lambda stage: f"of {stage}")
    assert copying.bars[0].width >= 1
    assert (copying.share, following.stage) == ("of copying", "following")


def test_names_of_switches_do_not_lie_on_each_other() -> None:
    switches = [
        {"at_ms": at_ms, "direction": "cutover", "outcome": outcome}
        for at_ms, outcome in ((1000, "put off"), (1001, "done"), (900_000, "done"))
    ]
    marks = TimeAxis(0, 1_000_000, switches).marks
    assert [mark.labelled for mark in marks] == [True, False, True]
    assert [mark.label for mark in marks] == ["cutover put off", "cutover", "cutover"]
