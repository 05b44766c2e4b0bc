"""What a migration asks of a run before and in a gate: touched keys, the last settling, pause and limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from leading import gate, led, settled
from legs import Writer

from copying import Beside, ask, compared, fill, fill_strings, keys_of, wait_until
from following import becomes_equal
from keyferry.follow.follower import Follower
from keyferry.model.phases import Phase
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument

KEYS = 1000
BIG = {"big_key_bytes": 20_000, "big_key_members": 500}


def _mixture(number: int) -> list[tuple[Argument, ...]]:
    """A few writes of every kind to few keys, so that keys are written again while they fly and rest."""
    at = number % 50
    return [
        ("SET", f"key:{at}", f"{number}"),
        ("INCR", "counter"),
        ("HSET", f"hash:{at % 7}", f"f{number % 90}", f"{number}"),
        ("RPUSH", "list", f"{number}"),
        ("SADD", f"set:{at % 3}", f"{number % 200}"),
        ("ZADD", "zset", number, f"m{number % 100}"),
        ("XADD", "stream", "*", "f", f"{number}"),
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", "stream", ">"),
        ("DEL", f"key:{(at + 25) % 50}"),
        ("SET", f"soon:{at}", "x", "PX", 50),
        ("LPOP", "list"),
    ]


class Writers:
    """Write in a loop until they are stopped."""

    def __init__(self, server: Deployment, first: int) -> None:
        self._server, self._first = server, first
        self.stopped = False
        self.written = 0

    def have_written(self) -> bool:
        return self.written > 100

    def __call__(self) -> None:
        with self._server.session() as session:
            while not self.stopped:
                session.pipeline(_mixture(self._first + self.written))
                self.written += 1


def _prepare(source: Deployment) -> None:
    fill_strings(source, KEYS)
    fill(source, [("XADD", "stream", "1-0", "f", "v"), ("XGROUP", "CREATE", "stream", "g", "0")])


def test_under_load_then_stop_settles_exactly(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    """What was named is settled, stream groups too, and nothing of ours is on its way when it says so."""
    source, target = server_pair
    _prepare(source)
    with led(source, target, tmp_path) as run:
        run.follows()
        run.do(lambda follower: follower.note_touched(True))
        for number in range(3):
            writers = Writers(source, number * 1000)
            with Beside(writers):
                wait_until(writers.have_written, "they write")
                writers.stopped = True

            def gated(follower: Follower) -> bool:
                # No feed names these; the stream's own entries were settled before.
                fill(source, [("XGROUP", "SETID", "stream", "g", "0")])
                fill(source, [("XREADGROUP", "GROUP", "g", "late", "COUNT", 5, "STREAMS", "stream", ">")])
                return follower.settle_all(gate())

            run.do(lambda follower: follower.settle_all(gate()))
            assert run.do(gated)
            found = compared(source, target, expiry_tolerance_ms=100)
            assert found.equal, found.differences[:5]
            assert run.do(lambda follower: follower.compare_touched(gate())) == 0


def test_settling_takes_the_gate_at_its_word(flushed: Callable[..., Server], tmp_path: Path) -> None:
    """Resting and gathering keys, limits and big keys do not make writers wait."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, KEYS)
    big: list[Argument] = [part for i in range(2000) for part in (f"f{i}", "v" * 20)]
    fill(source, [("HSET", "big", *big)])
    with led(source, target, tmp_path, **BIG) as run:
        run.follows()
        run.do(lambda follower: follower.set_limits(10.0, None))

        def gated(follower: Follower) -> list[float]:
            took = []
            for number in range(3):
                fill(source, [("SET", f"key:{i}", f"{number}") for i in range(200)])
                fill(source, [("HSET", "big", f"f{number}", "changed")])
                began_s = time.monotonic()
                assert follower.settle_all(gate())
                took.append(time.monotonic() - began_s)
                assert ask(target, "GET", "key:199") == b"%d" % number
                assert ask(target, "HGET", "big", f"f{number}") == b"changed"
            return took

        took = run.do(gated)
        assert min(took) < 1.0, "at ten keys a second it would have been twenty, and big keys rest for 200 ms"
        fill(source, [("SET", f"key:{i}", "limited") for i in range(200)])
        time.sleep(0.5)
        assert run.do(lambda follower: follower.watch.dirty_keys) > 100, (
            "outside of the gate the limit counts"
        )
        run.do(lambda follower: follower.set_limits(0.0, None))
        becomes_equal(source, target)


def test_touched_keys_are_compared_and_mended(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = server_pair
    fill_strings(source, KEYS)
    big: list[Argument] = [part for i in range(2000) for part in (f"f{i}", "v" * 20)]
    fill(source, [("HSET", "big", *big), ("SADD", "set", "a", "b")])
    with led(source, target, tmp_path, **BIG) as run:
        run.follows()
        assert run.do(lambda follower: follower.touched) == 0
        run.do(lambda follower: follower.note_touched(True))
        fill(
            source,
            [("SET", "key:1", "x"), ("DEL", "key:2"), ("HSET", "big", "f1", "y"), ("SADD", "set", "c")],
        )
        assert run.do(settled)
        assert run.do(lambda follower: follower.touched) == 0
        fill(source, [("SET", "key:1", "z"), ("SET", "key:3", "z"), ("HSET", "big", "f2", "z")])

        def spoiled(follower: Follower) -> tuple[int, int | None]:
            assert follower.settle_all(gate())
            touched = follower.touched
            fill(target, [("SET", "key:1", "theirs"), ("DEL", "key:3"), ("HSET", "big", "f9", "theirs")])
            return touched, follower.compare_touched(gate())

        assert run.do(spoiled) == (3, 0)
        assert (ask(target, "GET", "key:1"), ask(target, "GET", "key:3")) == (b"z", b"z")
        assert ask(target, "HGET", "big", "f9") == b"v" * 20
        fill(target, [("SET", "key:500", "untouched, so not looked at")])
        assert run.do(settled)


def test_touched_keys_under_writers(flushed: Callable[..., Server], tmp_path: Path) -> None:
    """What changes meanwhile stays touched; what stands still and differs is found all the same."""
    source, target = flushed("redis-7.0"), flushed("redis-8.2")
    _prepare(source)
    with led(source, target, tmp_path) as run:
        run.follows()
        run.do(lambda follower: follower.note_touched(True))
        writers = Writers(source, 0)
        with Beside(writers):
            fill(source, [("SET", "still", "1")])
            wait_until(lambda: ask(target, "GET", "still") == b"1", "it arrives")
            # The source's word is not asked again for it: only a comparison finds that.
            fill(target, [("SET", "still", "theirs")])
            for _ in range(5):
                assert run.do(lambda follower: follower.compare_touched(gate())) == 0
            assert ask(target, "GET", "still") == b"1"
            wait_until(lambda: writers.written > 50, "they write")
            writers.stopped = True
        assert run.do(settled)
        assert compared(source, target, expiry_tolerance_ms=100).equal


def test_touched_keys_that_cannot_be_carried_differ(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-8.2"), flushed("redis-6.2")
    fill(source, [("SET", "key", "1")])
    with led(source, target, tmp_path) as run:
        run.follows()
        run.do(lambda follower: follower.note_touched(True))
        fill(source, [("HSET", "hash", "f", "v"), ("HEXPIRE", "hash", 1000, "FIELDS", 1, "f")])

        def differs(follower: Follower) -> tuple[int | None, int]:
            assert follower.settle_all(gate())
            return follower.compare_touched(gate()), follower.touched

        assert run.do(differs) == (1, 1)


def test_too_many_touched_keys_are_no_proof(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 100)
    with led(source, target, tmp_path, dirty_max=50) as run:
        run.follows()
        run.do(lambda follower: follower.note_touched(True))
        for number in range(4):
            fill(source, [("SET", f"key:{number * 20 + i}", "x") for i in range(20)])
            assert run.do(lambda follower: follower.settle_all(gate()))
        assert run.do(lambda follower: (follower.touched, follower.touched_overflowed)) == (0, True)
        run.do(lambda follower: follower.forget_touched())
        fill(source, [("SET", "key:1", "y")])
        assert run.do(lambda follower: follower.settle_all(gate()))
        assert run.do(lambda follower: (follower.touched, follower.touched_overflowed)) == (1, False)


def test_a_gate_that_is_too_short_says_so_and_nothing_is_lost(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, KEYS)
    with led(source, target, tmp_path) as run:
        run.follows()
        run.do(lambda follower: follower.note_touched(True))

        def short(follower: Follower) -> tuple[bool, int | None, int]:
            fill(source, [("SET", f"key:{i}", "x") for i in range(KEYS)])
            assert follower.settle_all(gate())
            touched = follower.touched
            fill(source, [("SET", f"key:{i}", "y") for i in range(KEYS)])
            done = follower.settle_all(time.monotonic())
            looked = follower.compare_touched(time.monotonic())
            assert follower.touched >= touched == KEYS
            return done, looked, follower.touched

        assert run.do(short)[:2] == (False, None)
        becomes_equal(source, target)
        assert run.do(settled)


def test_sweeps_compare_everything_in_the_gate(flushed: Callable[..., Server], tmp_path: Path) -> None:
    """Where nothing names what changes."""
    from keyferry.capture.kinds import FeedKind

    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, KEYS)
    with led(source, target, tmp_path, feed=FeedKind.SWEEPS) as run:
        run.follows()

        def gated(follower: Follower) -> bool:
            fill(source, [("SET", "key:1", "x"), ("DEL", "key:2")])
            return follower.settle_all(gate())

        assert run.do(gated)
        assert (ask(target, "GET", "key:1"), ask(target, "EXISTS", "key:2")) == (b"x", 0)


def test_a_second_leg_that_arrives_in_hold_is_settled(
    server: Server, flushed: Callable[..., Server], tmp_path: Path
) -> None:
    """1. It is sent; 2. hold: its writer says so, and does not mirror any more; 3. it arrives. Nobody else names it."""
    target = flushed("valkey-9.1", 1)
    fill_strings(server, KEYS)
    writer = Writer(server, target)
    writer.register(lease_ms=60_000)
    with led(server, target, tmp_path, name="orders") as run:
        run.follows()
        wait_until(lambda: run.do(lambda follower: follower.mirrored), "it is mirrored")
        run.follows()
        run.do(lambda follower: follower.note_touched(True))
        writer.register(lease_ms=60_000, phase=Phase.HOLD)
        time.sleep(1.5)  # writers are looked at every second

        def gated(follower: Follower) -> bool:
            fill(target, [("SET", f"key:{i}", "late") for i in range(50)])
            return settled(follower)

        assert run.do(gated)
        found = compared(server, target)
        assert found.equal, found.differences[:3]
        writer.register(lease_ms=60_000)
        time.sleep(1.5)
        assert run.do(lambda follower: follower.watch.generation) == 2, "the first was before it was mirrored"
        writer.register(lease_ms=60_000, phase=Phase.SOURCE)
        wait_until(lambda: not run.do(lambda follower: follower.mirrored), "nobody writes to both any more")
    writer.close()


# Pause and limits


def test_pause_stops_every_write_while_following(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = server_pair
    _prepare(source)
    with led(source, target, tmp_path) as run:
        run.follows()
        run.do(lambda follower: follower.pause())
        time.sleep(0.2)
        before = _writes(target)
        fill(source, [*_mixture(1), ("DEL", "key:900")])
        time.sleep(0.5)
        assert _writes(target) == before
        assert run.do(lambda follower: (follower.paused, follower.watch.dirty_keys > 5)) == (True, True)
        run.do(lambda follower: follower.unpause())
        becomes_equal(source, target)
        assert run.do(lambda follower: follower.watch.generation) == 1, "the feed has gone on"


def test_pause_stops_a_copy(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 50_000)
    big: list[Argument] = [part for i in range(50_000) for part in (f"f{i}", "v" * 20)]
    fill(source, [("HSET", f"big:{number}", *big) for number in range(3)])
    with led(source, target, tmp_path, max_rate=5_000, batch=100, **BIG) as run:
        wait_until(lambda: keys_of(target) > 500, "the copy goes on")
        run.do(lambda follower: follower.pause())
        time.sleep(0.5)
        before, writes, dumps = keys_of(target), _writes(target), _calls(source, "dump", "scan", "getrange")
        fill(source, [("SET", "key:1", "meanwhile"), ("SET", "key:49999", "meanwhile")])
        time.sleep(0.5)
        assert (keys_of(target), _writes(target)) == (before, writes)
        assert _calls(source, "dump", "scan", "getrange") == dumps
        run.do(lambda follower: follower.set_limits(0.0, None))
        run.do(lambda follower: follower.unpause())
        run.follows()
        becomes_equal(source, target)


def test_pause_stops_a_comparison(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 20_000)
    with led(source, target, tmp_path) as run:
        run.follows()
        run.do(lambda follower: follower.set_limits(2_000.0, None))
        run.do(lambda follower: follower.compare_everything("comparing"))
        time.sleep(0.3)
        run.do(lambda follower: follower.pause())
        time.sleep(0.2)
        before = _calls(source, "getrange", "dump", "scan")
        time.sleep(0.5)
        assert _calls(source, "getrange", "dump", "scan") == before
        assert run.do(lambda follower: follower.comparisons.keys_done) < 20_000
        run.do(lambda follower: follower.set_limits(0.0, None))
        run.do(lambda follower: follower.unpause())
        run.follows()


def test_pause_lasts_over_trouble(start_server: Callable[..., Server], tmp_path: Path) -> None:
    source, target = (
        start_server("redis-7.0", appendonly="yes", appendfsync="always"),
        start_server("valkey-9.1"),
    )
    fill_strings(source, 200)
    with led(source, target, tmp_path) as run:
        run.follows()
        run.do(lambda follower: follower.pause())
        source.kill()
        source.start()
        fill(source, [("SET", "key:1", "paused")])
        wait_until(lambda: any("generation 2" in told for told in run.told), "it meets the source again")
        time.sleep(0.5)
        assert ask(target, "GET", "key:1") != b"paused"
        run.do(lambda follower: follower.unpause())
        becomes_equal(source, target, within_s=15)


def test_limits_are_shown_and_changed(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 100)
    with led(source, target, tmp_path, max_rate=300.0, max_latency_ms=0.0) as run:
        run.follows()
        assert run.do(lambda follower: follower.limits) == (300.0, 0.0)
        assert run.seen[-1].throttle in ("off", "limited")
        run.do(lambda follower: follower.set_limits(None, 5.0))
        assert run.do(lambda follower: follower.limits) == (300.0, 5.0)
        wait_until(lambda: run.seen[-1].throttle != "off", "the guard is on")
        run.do(lambda follower: follower.set_limits(0.0, 0.0))
        assert run.do(lambda follower: follower.limits) == (0.0, 0.0)
        wait_until(lambda: run.seen[-1].throttle == "off", "the guard is off")


@pytest.mark.parametrize("stage", ["copying", "waiting for a server"])
def test_the_lead_is_polled_in_every_stage(
    stage: str, start_server: Callable[..., Server], flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), start_server("valkey-9.1")
    fill_strings(source, 5_000)
    with led(source, target, tmp_path, max_rate=2_000.0) as run:
        if stage == "copying":
            wait_until(lambda: run.seen and run.seen[-1].stage == stage, stage)
        else:
            run.do(lambda follower: follower.set_limits(0.0, None))
            run.follows()
            target.kill()
            wait_until(lambda: run.seen[-1].stage == stage, stage)
        before = run.polls
        time.sleep(0.5)
        assert run.polls - before >= 4
        target.start() if stage != "copying" else None
        run.do(lambda follower: follower.set_limits(0.0, None))


def _calls(server: Server, *commands: str) -> int:
    info = ask(server, "INFO", "commandstats")
    assert isinstance(info, bytes)
    found = 0
    for line in info.decode().splitlines():
        name, _, rest = line.partition(":")
        if name.removeprefix("cmdstat_") in commands:
            found += int(rest.partition("calls=")[2].partition(",")[0])
    return found


def _writes(server: Server) -> int:
    return _calls(server, "restore", "unlink", "del", "set", "hset", "rename", "exec", "rpush", "xadd")
