"""A service of several processes: it notices what is lost, doubled or stale, and its waits are what they were."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyferry.cutover.phase_steps import Performer, Plan
from keyferry.cutover.record_store import RecordStore
from keyferry.model.phases import Phase, Side
from keyferry.model.record import Stamp
from keyferry.testing.servers import Server, ServerBinary
from keyferry.testing.service import CallKind, Habits, Outcome
from keyferry.testing.service_crowd import Crowd
from keyferry.testing.service_job import Job
from keyferry.testing.service_waits import Calls, Timed, Window

HABITS = Habits(ticks_per_s=50, wide_keys=200, wide_share=0.3)
BUSY_S = 1.5
MS = 1_000_000


@contextlib.contextmanager
def service(source: Server, target: Server, directory: Path) -> Iterator[Crowd]:
    endpoints = {Side.SOURCE: source.endpoint, Side.TARGET: target.endpoint}
    with RecordStore("service", endpoints, {}) as store:
        Performer(store, Plan(Phase.SOURCE, True, Stamp(1, "a test"))).run(5.0)
    job = Job(source.url, target.url, "service", str(directory), habits=HABITS)
    with Crowd(job, ("threads", "asyncio")) as crowd:
        crowd.go()
        yield crowd


@pytest.fixture
def pair(flushed: Callable[..., Server], binaries: dict[str, ServerBinary]) -> tuple[Server, Server]:
    """The oldest and the newest server."""
    names = list(binaries)
    return flushed(names[0]), flushed(names[-1], 1)


def test_what_is_there_counts(pair: tuple[Server, Server], tmp_path: Path) -> None:
    with service(*pair, tmp_path) as crowd:
        time.sleep(BUSY_S)
        calls = crowd.stop()
        told, counted = crowd.tally(), crowd.audit(pair[0].url)
    assert (counted.missing, counted.doubled, counted.findings, counted.errors) == (0, 0, (), ())
    assert counted.writes > 500
    assert told.writes >= counted.writes
    assert (told.stale, told.failed, told.unknown) == (0, 0, 0)
    assert told.reads > 50
    assert {call.kind for call in calls} == set(CallKind)
    assert 0 < calls.longest_s() < BUSY_S


def test_what_is_not_there_is_missing(pair: tuple[Server, Server], tmp_path: Path) -> None:
    with service(*pair, tmp_path) as crowd:
        time.sleep(BUSY_S)
        crowd.stop()
        with pair[0].session() as session:
            session.call("DECR", "own:0:count:3")
            session.call("INCR", "own:0:count:5")
            session.call("DEL", "own:1:list:0")
        counted = crowd.audit(pair[0].url)
    assert counted.doubled == 1
    assert counted.missing > 1
    assert len(counted.findings) == 3


def test_what_goes_back_is_stale(pair: tuple[Server, Server], tmp_path: Path) -> None:
    with service(*pair, tmp_path) as crowd, pair[0].session() as session:
        time.sleep(BUSY_S)
        for _ in range(200):
            session.call("SET", "beacon:0", "0")
            session.call("SET", "beacon:1", "0")
        crowd.stop()
        assert crowd.tally().stale > 0


def test_a_gate_is_the_time_in_which_no_write_comes_back() -> None:
    def write(begun_ms: float, ended_ms: float) -> Timed:
        return Timed(int(begun_ms * MS), int(ended_ms * MS), CallKind.WRITE, Outcome.DONE)

    before = [write(at, at + 1) for at in range(0, 10, 2)]
    held = [write(10, 31), write(12, 32), write(30, 33)]
    after = [write(at, at + 1) for at in range(34, 44, 2)]
    reads = [Timed(at * MS, at * MS + 1, CallKind.READ, Outcome.DONE) for at in range(44)]
    calls = Calls([*before, *held, *after, *reads])
    gap = calls.gap()
    assert gap is not None
    assert (gap.seconds, gap.held) == (0.021, 3)
    assert calls.longest_s() == 0.021
    window = Window(8 * MS + MS // 2, 33 * MS)
    assert calls.within(window).gap() == gap
    assert calls.outside([window]).longest_s() == 0.001


def test_nobody_waits_where_nobody_writes() -> None:
    assert Calls([]).gap() is None
    assert Calls([]).longest_s() == 0.0
    failed = Timed(0, 5, CallKind.WRITE, Outcome.FAILED), Timed(0, 9, CallKind.READ, Outcome.UNKNOWN)
    assert Calls(failed).errors() == 2
