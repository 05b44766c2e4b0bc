"""The pace: limits hold, the guard backs off at once and comes back, nothing ever stops for good."""

from __future__ import annotations

import pytest

from keyferry.copy.pace import UNLIMITED, Guard, Pace

STEP_S = 0.01


def run(
    pace: Pace, seconds: float, *, added_ms: float = 0.0, capacity: float = 100_000, key_bytes: int = 100
) -> int:
    """A server that gives ``capacity`` keys/s; returns the keys done."""
    now = getattr(run, "now", 0.0)
    done = getattr(run, "done", 0)
    begun = done
    for _ in range(round(seconds / STEP_S)):
        now += STEP_S
        pace.guard.sample(added_ms)
        keys = min(pace.allowance(now, done, done * key_bytes, 0), int(capacity * STEP_S))
        pace.spend(keys)
        done += keys
    run.now, run.done = now, done  # type: ignore[attr-defined]
    return done - begun


@pytest.fixture(autouse=True)
def _clock() -> None:
    run.now, run.done = 0.0, 0  # type: ignore[attr-defined]


def test_no_limit_no_guard() -> None:
    pace = Pace(None, None, 0)
    assert pace.allowance(1.0, 0, 0, 0) == UNLIMITED
    assert pace.state == "off"
    assert run(pace, 1) == pytest.approx(100_000)
    assert pace.throttled_s == 0


def test_max_rate_holds() -> None:
    pace = Pace(5000, None, 0)
    assert run(pace, 10) == pytest.approx(50_000, rel=0.02)
    assert pace.throttled_s > 0


def test_a_very_low_rate_still_moves() -> None:
    assert run(Pace(10, None, 0), 10) == pytest.approx(100, rel=0.1)


def test_max_bandwidth_holds() -> None:
    assert run(Pace(None, 1_000_000, 0), 10) * 100 == pytest.approx(10_000_000, rel=0.05)


def test_the_guard_slows_down_and_recovers() -> None:
    pace = Pace(None, None, 5)
    run(pace, 1)
    assert pace.state == "free"
    assert run(pace, 1, added_ms=20) < 40_000
    assert state_of(pace) == "slowed"
    run(pace, 5)
    assert state_of(pace) == "free"
    assert run(pace, 1) == pytest.approx(100_000)
    assert pace.throttled_s > 1


def state_of(pace: Pace) -> str:
    return pace.state


def limits_of(pace: Pace) -> tuple[float, float]:
    return pace.limits


def test_the_guard_never_stops_the_copy() -> None:
    pace = Pace(None, None, 5)
    for turn in range(40):
        assert run(pace, 0.5, added_ms=500 * (turn % 2)) > 0


def test_a_latency_that_is_not_ours_does_not_hold_the_copy_back_for_ever() -> None:
    """The server is as slow when we hardly ask it anything."""
    pace = Pace(None, None, 5)
    run(pace, 10, added_ms=15)
    assert run(pace, 2, added_ms=15) > 100_000


def test_a_latency_that_grows_with_our_rate_is_kept_near_its_limit() -> None:
    """1 ms per 10,000 keys/s, on top of 12 ms that others cause."""
    pace = Pace(None, None, 5)
    for _ in range(300):
        rate = 100_000 if pace.guard.rate is None else pace.guard.rate
        run(pace, 0.1, added_ms=12 + min(rate, 100_000) / 10_000)
    rates = []
    for _ in range(100):
        rate = 100_000 if pace.guard.rate is None else pace.guard.rate
        rates.append(min(rate, 100_000))
        run(pace, 0.1, added_ms=12 + rates[-1] / 10_000)
    assert 20_000 < sum(rates) / len(rates) < 80_000


def test_pieces_wait_for_the_bandwidth() -> None:
    pace = Pace(None, 1_000_000, 0)
    now, sent = 0.0, 0
    while now < 2.0:
        if pace.allows_piece(now):
            pace.spend_piece(100_000)
            sent += 100_000
        now += 0.005
    assert 1_800_000 <= sent <= 2_300_000


def test_pieces_slow_down_with_the_latency() -> None:
    pace = Pace(None, None, 5.0)
    sent = {False: 0, True: 0}
    for step in range(2_000):
        slow = step >= 1_000
        pace.guard.sample(50.0 if slow and pace.guard.rate != 200 else 0.1)
        if pace.allows_piece(step * 0.001):
            pace.spend_piece(20_000)
            sent[slow] += 1
    assert sent[False] == 1_000
    assert sent[True] < 700


def test_a_key_that_is_asked_for_twice_counts_once() -> None:
    """First for its size, then for its value: what was answered and has not come is given back."""
    pace = Pace(1_000, None, 0)
    now = 0.0
    done = measured = 0
    for _ in range(1_000):
        now += STEP_S
        keys = pace.allowance(now, done, 0, 0)
        dumps = min(keys, measured)
        sizes = keys - dumps
        pace.spend(keys)
        done += dumps
        measured += sizes - dumps
    assert done == pytest.approx(10_000, rel=0.05)


def test_what_one_shard_has_asked_for_is_not_given_to_the_next() -> None:
    pace = Pace(1_000, None, 0)
    pace.allowance(1.0, 0, 0, 0)
    given: list[int] = []
    for _ in range(3):
        keys = pace.allowance(1.02, 0, 0, sum(given))
        pace.spend(keys)
        given.append(keys)
    assert given == [20, 0, 0]


def test_both_limits_together_let_the_first_key_through() -> None:
    """Nothing is known of the keys' size yet, so one alone may go, less than the portion that a rate wants."""
    pace = Pace(1_000, 1_000_000, 0)
    pace.allowance(0.0, 0, 0, 0)
    assert pace.allowance(0.1, 0, 0, 0) == 1


def test_what_is_needed_is_never_held_back() -> None:
    guard = Guard(5.0)
    guard.needs(30_000)
    keys = 0
    for step in range(40):
        now = step * 0.1
        for _ in range(10):
            guard.sample(50.0)
        keys += 3000
        guard.tick(now, keys)
    assert guard.rate is not None, "it does slow down"
    assert guard.rate >= 30_000
    guard.needs(0)
    for step in range(40, 60):
        for _ in range(10):
            guard.sample(50.0 + step)
        guard.tick(step * 0.1, keys)
    assert guard.rate < 30_000


def test_nothing_is_allowed_in_a_pause_and_nothing_is_owed_after_it() -> None:
    pace = Pace(1_000, 1_000_000, 0)
    run(pace, 1)
    pace.paused = True
    assert run(pace, 1) == 0
    assert not pace.allows_piece(run.now)  # type: ignore[attr-defined]
    assert pace.state != "limited", "it is held by an operator, not by a limit"
    pace.paused = False
    assert run(pace, 1) == pytest.approx(1_000, rel=0.1)


def test_while_writers_wait_no_limit_counts_and_none_is_charged() -> None:
    pace = Pace(1_000, 100_000, 5)
    run(pace, 1, added_ms=50)
    pace.urgent = True
    assert run(pace, 0.1) == pytest.approx(10_000)
    assert pace.allows_piece(run.now)  # type: ignore[attr-defined]
    pace.spend_piece(50_000_000)
    pace.urgent = False
    assert run(pace, 1) == pytest.approx(1_000, rel=0.3), "at once as before, with no debt"


def test_limits_can_be_changed_and_taken_away() -> None:
    pace = Pace(1_000, None, 5)
    assert limits_of(pace) == (1_000, 5)
    run(pace, 2, added_ms=50)
    assert state_of(pace) == "slowed"
    pace.set_limits(None, 0)
    assert limits_of(pace) == (1_000, 0)
    assert state_of(pace) == "off"
    assert run(pace, 1, added_ms=50) == pytest.approx(1_000, rel=0.1)
    pace.set_limits(0, None)
    assert run(pace, 1) == pytest.approx(100_000)
    assert limits_of(pace) == (0, 0)
    pace.set_limits(2_000, None)
    assert run(pace, 1) == pytest.approx(2_000, rel=0.1)
