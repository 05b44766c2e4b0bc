"""Whether anything is written: what spares the waiting, and what must not."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyferry.testing.servers import Server
from keyferry.verify.rounds import Calm, WriteMarks
from verifying import Beside, Verifying, ask, fill, strings

Flushed = Callable[..., Server]


def calm_of(answers: list[WriteMarks | None], monkeypatch: pytest.MonkeyPatch) -> tuple[Calm, list[float]]:
    clock = [100.0]
    monkeypatch.setattr("keyferry.verify.rounds.time.monotonic", lambda: clock[0])
    return Calm(lambda: answers.pop(0)), clock


def test_it_takes_a_second_without_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    same = ((5, 1),)
    calm, clock = calm_of([same, same, same], monkeypatch)
    calm.look()
    clock[0] += 0.9
    assert not calm.proves(100.5)
    clock[0] += 0.2
    assert calm.proves(100.5)


def test_a_write_on_either_server_begins_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = ((5, 1), (7, 1)), ((5, 1), (8, 1))
    calm, clock = calm_of([one, other, other, other], monkeypatch)
    calm.look()
    clock[0] += 5
    assert not calm.proves(101.0)
    clock[0] += 5
    # A look from before that write proves nothing, however long ago it was.
    assert not calm.proves(104.0)
    assert calm.proves(106.0)


def test_a_server_that_does_not_tell_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calm, clock = calm_of([None, None], monkeypatch)
    calm.look()
    clock[0] += 5
    assert not calm.proves(104.0)


def test_nothing_is_waited_for_where_nothing_is_written(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill(source, strings(500))
    began_s = time.monotonic()
    report = Verifying(tmp_path).run(source, target)
    assert report.differences == 500
    # All the pauses together are 7.75 s.
    assert time.monotonic() - began_s < 5


def test_a_single_writer_elsewhere_makes_us_wait(flushed: Flushed, tmp_path: Path) -> None:
    """The key that differs is mended 3 s later: a sync that lags so long, with little traffic."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    ask(source, "SET", "late", 1)
    mended_s = time.monotonic() + 3

    def work() -> None:
        ask(source, "INCR", "counter")
        ask(target, "INCR", "counter")
        if time.monotonic() > mended_s:
            ask(target, "SET", "late", 1)
        time.sleep(0.2)

    with Beside(work):
        report = Verifying(tmp_path).run(source, target)
    assert report.equal, report.first
    assert report.suspects
