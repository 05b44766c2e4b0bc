"""Comparing while traffic runs: a target that is late is no difference, one that was forgotten is."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument
from verifying import Beside, Verifying, ask, fill, reasons, strings, told_keys

Flushed = Callable[..., Server]
KEYS = 2000
LATE_S = 0.05


class Mirrored:
    """Writes to the source, and 50 ms later the same to the target, by another thread. Use as a context.

    Args:
        forgotten: Keys whose writes the target never gets.
        hot: Keys that get every second write.
    """

    def __init__(
        self, source: Server, target: Server, *, forgotten: frozenset[str] = frozenset(), hot: int = 5
    ) -> None:
        self._source, self._target = source, target
        self._forgotten, self._hot = forgotten, hot
        self._queue: deque[tuple[float, list[tuple[Argument, ...]]]] = deque()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._mirror)]
        self._errors: list[BaseException] = []
        self.written = 0

    def __enter__(self) -> Mirrored:
        for thread in self._threads:
            thread.start()
        time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        assert not self._errors

    def _write(self) -> None:
        chance = random.Random(7)
        try:
            with self._source.session() as session:
                while not self._over.is_set():
                    commands = [self._command(chance) for _ in range(20)]
                    session.pipeline(commands)
                    self.written += len(commands)
                    kept = [command for command in commands if command[1] not in self._forgotten]
                    self._queue.append((time.monotonic() + LATE_S, kept))
                    time.sleep(0.01)
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            self._errors.append(error)

    def _command(self, chance: random.Random) -> tuple[Argument, ...]:
        number = chance.randrange(self._hot) if chance.random() < 0.5 else chance.randrange(KEYS)
        value = chance.randrange(10**6)
        key = f"k{number}"
        if number % 4 == 0:
            return ("HSET", f"h{number}", f"f{value % 10}", value)
        if number % 4 == 1 and chance.random() < 0.3:
            return ("DEL", key)
        if number % 4 == 2:
            return ("PEXPIREAT", key, int(time.time() * 1000) + 10_000_000 + value * 1000)
        return ("SET", key, value)

    def _mirror(self) -> None:
        try:
            with self._target.session() as session:
                while not self._over.is_set() or self._queue:
                    if self._queue and self._queue[0][0] <= time.monotonic():
                        session.pipeline(self._queue.popleft()[1])
                    else:
                        time.sleep(0.001)
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            self._errors.append(error)


PAIRS = [("redis-7.0", "valkey-9.1"), ("redis-6.2", "redis-8.2"), ("redis-8.2", "redis-7.0")]


@pytest.mark.parametrize("names", PAIRS, ids="->".join)
def test_no_false_alarm_while_a_late_target_follows(
    names: tuple[str, str], flushed: Flushed, tmp_path: Path
) -> None:
    source, target = map(flushed, names)
    for server in (source, target):
        fill(server, strings(KEYS))
    with Mirrored(source, target) as traffic:
        for _ in range(2):
            report = Verifying(tmp_path).run(source, target)
            assert report.equal, report.first
            assert report.suspects
    assert traffic.written > 1000


@pytest.mark.parametrize("names", PAIRS[:2], ids="->".join)
def test_what_was_forgotten_is_found_among_the_late(
    names: tuple[str, str], flushed: Flushed, tmp_path: Path
) -> None:
    """One key that is written seldom, one of the hottest of all, and one that rests."""
    source, target = map(flushed, names)
    for server in (source, target):
        fill(server, strings(KEYS))
    forgotten = frozenset(("k3", "k1999"))
    fill(source, [("SET", "k1999", "new"), ("SET", "k3", "new"), ("SET", "rests", "new")])
    fill(target, [("SET", "rests", "old")])
    with Mirrored(source, target, forgotten=forgotten):
        report = Verifying(tmp_path).run(source, target)
    assert set(told_keys(report)) == {b"k3", b"k1999", b"rests"}
    assert reasons(report) == {"stale": 3}


def test_a_key_that_changes_all_the_time_without_a_sync(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill(source, [("SET", "counter", 0), ("SET", "new", 0)])
    fill(target, [("SET", "counter", -1)])
    with source.session() as session:

        def count() -> None:
            session.pipeline([("INCR", "counter"), ("INCR", "new")])
            time.sleep(0.001)

        with Beside(count):
            report = Verifying(tmp_path).run(source, target)
    assert told_keys(report) == {b"counter": "stale", b"new": "never copied"}


def test_a_target_that_somebody_else_changes_all_the_time(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill(source, [("SET", "counter", "v")])
    with target.session() as session:

        def count() -> None:
            session.call("INCR", "counter")
            time.sleep(0.001)

        with Beside(count):
            report = Verifying(tmp_path).run(source, target, rounds=3)
    assert told_keys(report) == {b"counter": "changed on the target"}


def test_keys_that_expire_during_the_comparison(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-6.2")
    soon_ms = int(time.time() * 1000) + 300
    for server in (source, target):
        late_ms = 0 if server is source else 800
        for i in range(0, 3000, 10):
            fill(server, [("SET", f"k{i}", "v", "PXAT", soon_ms + i + late_ms)])
    report = Verifying(tmp_path).run(source, target)
    assert report.equal, report.first
    while ask(target, "EXISTS", "k2990"):
        time.sleep(0.05)
