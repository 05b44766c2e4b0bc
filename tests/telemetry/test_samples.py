"""The rows for charts stay few, in order, and keep what was worst."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from keyferry.model.phases import Side
from keyferry.telemetry.following import SyncProgress
from keyferry.telemetry.samples import COLUMNS, ROWS_MAX, Samples


def look(*, lag_s: float = 0.0, rate: float = 0.0, source_ms: float | None = None) -> SyncProgress:
    return SyncProgress(
        stage="following",
        feed="tracking",
        generation=1,
        keys_total=10,
        keys_done=5,
        keys_per_second=rate,
        seconds_left=None,
        changes_per_second=rate,
        dirty_keys=3,
        lag_s=lag_s,
        settled_keys=0,
        settled_per_second=rate,
        cutover_s=None,
        hottest=(),
        foreign_keys=0,
        failed=0,
        elapsed_s=1.0,
        source_latency_ms=source_ms,
        target_latency_ms=None,
        throttle="off",
    )


def column(samples: Samples, name: str) -> list[object]:
    return [row[COLUMNS.index(name)] for row in samples.as_dict()["rows"]]


def test_one_row_a_second() -> None:
    samples = Samples()
    assert [samples.add(at_ms, "copying", None) for at_ms in (10_000, 10_999, 11_000, 11_500)] == [
        True,
        False,
        True,
        False,
    ]
    assert column(samples, "at_ms") == [10_000, 11_000]
    assert samples.as_dict(10_000)["rows"] == samples.as_dict()["rows"][1:]


def test_a_clock_that_is_set_back_does_not_silence_it() -> None:
    samples = Samples()
    samples.add(10_000, "following", look())
    assert samples.add(4_000, "following", look())
    # And who knows all until then is told what came after it.
    assert samples.as_dict(10_000)["rows"] == samples.as_dict()["rows"][1:]


def test_latencies_are_those_of_the_migrations_sides_on_the_way_back_too() -> None:
    samples = Samples()
    samples.add(1_000, "following", look(source_ms=7.0))
    samples.add(2_000, "following back", look(source_ms=7.0), Side.TARGET)
    assert column(samples, "source_latency_ms") == [7.0, None]
    assert column(samples, "target_latency_ms") == [None, 7.0]


def test_what_was_worst_is_never_averaged_away() -> None:
    samples = Samples()
    for second in range(10 * ROWS_MAX):
        samples.add(second * 1000, "following", look(lag_s=9.0 if second == 77 else 0.1, rate=100.0))
    lags = column(samples, "lag_s")
    assert max(lags) == 9.0  # type: ignore[type-var]
    assert set(column(samples, "changes_per_second")) == {100.0}
    assert samples.every_s == 16.0


@given(
    st.lists(st.integers(1, 100_000), max_size=3 * ROWS_MAX),
    st.integers(0, 3 * ROWS_MAX),
)
def test_rows_are_few_and_in_order_also_after_a_restart(pauses_ms: list[int], cut: int) -> None:
    samples, at_ms = Samples(), 0
    for index, pause_ms in enumerate(pauses_ms):
        at_ms += pause_ms
        samples.add(at_ms, "following", look() if index % 3 else None)
        if index == cut:
            samples = Samples(json.loads(json.dumps(samples.as_dict())))
    times = [row[0] for row in samples.as_dict()["rows"]]
    assert len(times) <= ROWS_MAX and times == sorted(set(times))
    if times:
        assert at_ms - times[-1] < samples.every_s * 1000


def test_rows_of_other_columns_are_passed_over() -> None:
    assert Samples({"every_s": 4.0, "columns": ["at_ms"], "rows": [[1]]}).as_dict()["rows"] == []
