"""A source that lives: writers, limits, and a guard that makes way for them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from copying import (
    Beside,
    Copying,
    ask,
    assert_consistent,
    assert_equal,
    fill,
    fill_strings,
    keys_of,
    wait_until,
)
from keyferry.model.address import Endpoint
from keyferry.telemetry.progress import Progress
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument

Flushed = Callable[..., Server]
Starter = Callable[..., Server]


@contextmanager
def writers(server: Server) -> Iterator[None]:
    """Sets, deletes, expiries, other types, big values, without a pause."""
    done = threading.Event()

    def write(seed: int) -> None:
        chance = random.Random(seed)
        with server.session() as session:
            while not done.is_set():
                commands: list[tuple[Argument, ...]] = []
                for _ in range(20):
                    key = b"key:%d" % chance.randrange(30_000)
                    commands += chance.choice(
                        [
                            [("SET", key, "changed" * chance.randrange(50))],
                            [("SET", key, "v", "PX", chance.randrange(1, 40))],
                            [("DEL", key)],
                            [("DEL", key), ("RPUSH", key, "a", "b")],
                            [("DEL", key), ("HSET", key, *(str(i) for i in range(200)))],
                            [("DEL", key), ("SADD", key, "x", "y")],
                            [("RENAME", key, b"key:%d" % chance.randrange(30_000))],
                            [("PERSIST", key)],
                        ]
                    )
                session.pipeline(commands)

    with Beside(lambda: write(1)), Beside(lambda: write(2)):
        try:
            yield
        finally:
            done.set()


@pytest.mark.parametrize("pair", ["redis-7.0 valkey-9.1", "redis-6.2 redis-8.2", "redis-8.2 redis-6.2"])
def test_writers_neither_break_it_nor_its_counts(pair: str, flushed: Flushed, tmp_path: Path) -> None:
    source, target = (flushed(name) for name in pair.split())
    fill_strings(source, 30_000)
    fill_strings(source, 2_000, prefix=b"quiet:")
    with writers(source):
        report = Copying(tmp_path / "state").run(source, target, max_rate=20_000, on_conflict="replace")
    assert_consistent(report)
    assert report.run.failed == 0
    for i in range(0, 2_000, 50):
        assert ask(target, "GET", f"quiet:{i}") == ask(source, "GET", f"quiet:{i}")
    # A second pass over what is quiet now makes them equal, but for keys that were deleted meanwhile.
    Copying(tmp_path / "again").run(source, target, on_conflict="replace")
    keys = ask(source, "KEYS", "*")
    assert isinstance(keys, list)
    time.sleep(0.05)  # the longest life of the short-lived ones
    names = [key for key in keys if isinstance(key, bytes)]
    with source.session() as session:
        lives = session.pipeline([("PTTL", key) for key in names])
    kept = [key for key, left in zip(names, lives, strict=True) if left == -1]
    assert kept
    for key in kept[:: len(kept) // 100]:
        assert ask(target, "TYPE", key) == ask(source, "TYPE", key)
        assert ask(target, "PTTL", key) == -1


def test_a_flushed_source_ends_the_copy_in_peace(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 20_000)

    def flush() -> None:
        wait_until(lambda: keys_of(target) > 500, "the first keys")
        ask(source, "FLUSHALL")

    with Beside(flush):
        report = Copying(tmp_path / "state").run(source, target, max_rate=5_000)
    assert_consistent(report)
    assert report.run.failed == 0


@pytest.mark.parametrize("rate", [500, 5_000])
def test_max_rate(rate: int, flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 3 * rate)
    report = Copying(tmp_path / "state").run(source, target, max_rate=rate)
    assert 2.8 <= report.seconds <= 4.5
    assert report.throttled_seconds > 2
    assert_equal(source, target)


@pytest.mark.parametrize("size", [100, 20_000, 400_000])
def test_max_bandwidth(size: int, flushed: Flushed, tmp_path: Path) -> None:
    """From the first key on: nothing was known of the sizes before."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    bandwidth = 2_000_000
    count = 3 * bandwidth // size
    noise = random.Random(1)
    fill(source, [("SET", f"k{i}", noise.randbytes(size)) for i in range(count)])
    seen: list[tuple[float, int]] = []
    copying = Copying(tmp_path / "state")
    copying.on_progress = lambda progress: seen.append((progress.elapsed_s, progress.bytes_done))
    report = copying.run(source, target, max_bandwidth=bandwidth)
    assert report.run.copied == count
    assert report.run.bytes / bandwidth - 0.3 <= report.seconds <= report.run.bytes / bandwidth + 2
    # Never far ahead of the limit: a tenth of a second, and one value.
    for elapsed_s, done in seen:
        assert done <= bandwidth * (elapsed_s + 0.3) + size, (elapsed_s, done)


@pytest.mark.parametrize("side", ["source", "target"])
def test_the_guard_makes_way_and_comes_back(side: str, flushed: Flushed, tmp_path: Path) -> None:
    """A server that is slow for a while: the copy slows down then, and is fast again after it."""
    servers = {"source": flushed("redis-7.0"), "target": flushed("valkey-9.1")}
    fill_strings(servers["source"], 40_000)
    states: dict[bool, set[str]] = {True: set(), False: set()}
    disturbed = threading.Event()
    disturbed.set()

    def look(progress: Progress) -> None:
        states[disturbed.is_set()].add(progress.throttle)

    copying = Copying(tmp_path / "state")
    copying.on_progress = look

    def disturb() -> None:
        wait_until(lambda: keys_of(servers["target"]) > 500, "the first keys")
        end_s = time.monotonic() + 2.0
        with servers[side].session() as session:
            while time.monotonic() < end_s:
                assert session.call("DEBUG", "SLEEP", "0.12") == b"OK"
        disturbed.clear()

    # Far above what a loaded machine adds by itself.
    with Beside(disturb):
        report = copying.run(servers["source"], servers["target"], max_rate=15_000, max_latency_ms=50.0)
    assert_consistent(report)
    assert "slowed" in states[True]
    assert report.throttled_seconds > 0.3
    assert states[False] & {"free", "limited"}
    assert_equal(servers["source"], servers["target"])


def test_a_distant_server_is_no_slow_one(flushed: Flushed, tmp_path: Path) -> None:
    """20 ms there and back are the network's own, known before the copy begins."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 20_000)
    with FaultProxy("127.0.0.1", target.port) as proxy:
        proxy.delay(0.01)
        far = Endpoint(host="127.0.0.1", port=proxy.port)
        report = Copying(tmp_path / "state").run(source, far, max_latency_ms=50.0)
    assert report.seconds < 10
    assert_equal(source, target)


def test_answers_are_read_behind_a_slow_source(
    flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are always under way, few come: the target's answers must not lie until they are many."""
    monkeypatch.setattr("keyferry.copy.pipeline.SILENCE_S_MAX", 0.6)
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    noise = random.Random(1).randbytes(200_000)
    fill(source, [("SET", f"k{i}", noise) for i in range(100)])
    done = threading.Event()
    with FaultProxy("127.0.0.1", source.port) as proxy:

        def hold_up() -> None:
            """A thin line: a few values now and then."""
            while not done.wait(0.01):
                proxy.stall(True)
                done.wait(0.15)
                proxy.stall(False)

        copying = Copying(tmp_path / "state")
        slow = Endpoint(host="127.0.0.1", port=proxy.port)
        with Beside(hold_up):
            try:
                report = copying.run(slow, target, batch=100)
            finally:
                done.set()
    assert copying.told == []
    assert report.seconds > 1
    assert report.run.copied == 100
    assert_equal(source, target)
