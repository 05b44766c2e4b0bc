"""The flow: bounded in bytes by what was seen, never at a standstill."""

from __future__ import annotations

from dataclasses import dataclass

from keyferry.copy.flow import (
    DUMP_BYTES_MAX,
    KEYS_MIN,
    REPLY_BYTES_MAX,
    STORING_KEYS_MAX,
    TARGET_BACKLOG_BYTES_MAX,
    Flow,
)


@dataclass
class Counters:
    queued_keys: int = 10_000
    fetching_keys: int = 0
    storing_keys: int = 0
    fetched_keys: int = 0
    fetched_bytes: int = 0
    dumping_bytes: int = 0


def seen(flow: Flow, counters: Counters, keys: int, size: int) -> int:
    counters.fetched_keys += keys
    counters.fetched_bytes += keys * size
    return flow.window(counters)


def test_before_anything_is_seen_little_is_asked_for() -> None:
    assert Flow(1000).wants_fetch(Counters(), 0, 1 << 30) <= 64


def test_small_values_open_the_window_to_two_batches() -> None:
    flow, counters = Flow(1000), Counters()
    for _ in range(30):
        window = seen(flow, counters, 1000, 80)
    assert window == 2000


def test_large_values_close_it_at_once() -> None:
    flow, counters = Flow(1000), Counters()
    for _ in range(30):
        seen(flow, counters, 1000, 80)
    assert seen(flow, counters, 100, 1_000_000) * 1_000_000 <= REPLY_BYTES_MAX


def test_a_few_giants_are_enough_to_close_it() -> None:
    """Each DUMP that is asked for waits in the source's memory until we have taken those before it."""
    flow, counters = Flow(1000), Counters()
    assert seen(flow, counters, 3, 40_000_000) == KEYS_MIN


def test_a_slow_target_stops_the_asking() -> None:
    flow = Flow(1000)
    assert flow.wants_fetch(Counters(), TARGET_BACKLOG_BYTES_MAX + 1, 1 << 30) == 0
    assert flow.wants_fetch(Counters(storing_keys=STORING_KEYS_MAX + 1), 0, 1 << 30) == 0


def test_never_more_than_allowed_or_queued() -> None:
    flow = Flow(1000)
    assert flow.wants_fetch(Counters(), 0, 3) == 3
    assert flow.wants_fetch(Counters(queued_keys=2), 0, 1 << 30) == 2
    assert flow.wants_fetch(Counters(fetching_keys=5000), 0, 1 << 30) == 0


def test_few_bytes_under_way_are_worth_waking_for() -> None:
    flow = Flow(1000)
    assert flow.wake_bytes(Counters(fetching_keys=1)) == 1
    assert flow.wake_bytes(Counters(fetching_keys=1000)) > 1


def test_measured_values_are_asked_for_by_their_size() -> None:
    flow, counters = Flow(1000, measured=True), Counters()
    first = flow.dump_bytes(counters, 0.0)
    assert first == DUMP_BYTES_MAX
    flow.dumps(first)
    counters.dumping_bytes = first
    assert flow.dump_bytes(counters, 0.0) == 0
    # Not more before the source has answered, whatever time goes by.
    assert flow.dump_bytes(counters, 10.0) == 0
    counters.dumping_bytes = first // 2
    assert 0 < flow.dump_bytes(counters, 11.0) <= DUMP_BYTES_MAX


def test_a_source_that_has_answered_everything_is_asked_again_at_once() -> None:
    flow, counters = Flow(1000, measured=True), Counters()
    flow.dumps(flow.dump_bytes(counters, 0.0))
    assert flow.dump_bytes(counters, 0.0) == DUMP_BYTES_MAX


def test_a_distant_source_has_more_under_way_but_never_more_at_once() -> None:
    flow, counters = Flow(1000, measured=True, round_trip_ms=20.0), Counters()
    flow.dumps(flow.dump_bytes(counters, 0.0))
    counters.dumping_bytes = DUMP_BYTES_MAX
    assert flow.dump_bytes(counters, 0.0001) < DUMP_BYTES_MAX / 10
    assert flow.dump_bytes(counters, 0.02) == DUMP_BYTES_MAX
