"""The pace: limits hold, the guard backs off at once and comes back, nothing ever stops for good."""

from __future__ import annotations

import pytest

from keyferry.copy.pace import RATE_MIN, UNLIMITED, Pace

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
    slowed = run(pace, 1, added_ms=20)
    assert slowed < 30_000
    assert pace.state == "slowed"
    run(pace, 5)
    assert pace.state == "free"
    assert run(pace, 1) == pytest.approx(100_000)
    assert pace.throttled_s > 1


def test_the_guard_never_stops_the_copy() -> None:
    pace = Pace(None, None, 5)
    run(pace, 10, added_ms=500)
    assert run(pace, 10, added_ms=500) == pytest.approx(10 * RATE_MIN, rel=0.1)
