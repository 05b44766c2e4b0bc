"""Follows the other way round from the moment of a switch: nothing is copied again, nothing is missed, whatever breaks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from leading import Led, gate, led, settled
from legs import Writer

from copying import Beside, ask, compared, fill, fill_strings, keys_of, wait_until
from following import becomes_equal
from keyferry.follow.follower import Follower
from keyferry.model.selection import Selection
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument

KEYS = 2000


def attach(run: Led, source: Deployment, target: Deployment, state_dir: Path, **given: object) -> Led:
    """The run of the other direction, which hears from now on. Args: source: Of the run that goes on."""
    back = Led(target, source, state_dir, equal=True, **given)

    def attached(follower: Follower) -> None:
        back.make().attach_equal(follower)
        run.next = back

    run.do(attached)
    return back


def _drop(run: Led, back: Led) -> None:
    """It ends before it was ever run. By the run's own thread."""
    run.next = None
    back.run.close()
    back.state.close()


def switch(run: Led, back: Led, commit: Callable[[], None] = lambda: None) -> None:
    """What a switch does from the last settling on; the commit is whatever the test makes of it."""

    def switched(follower: Follower) -> None:
        assert settled(follower)
        back.run.drop_marks()
        commit()

    run.do(switched)
    assert run.end() is not None, run.error


def test_the_other_way_round_without_copying(
    server: Server, flushed: Callable[..., Server], tmp_path: Path
) -> None:
    """Groups of streams and databases that came late are followed, too; twice around, with the checkpoints of before."""
    source, target = server, flushed("valkey-9.1", 1)
    fill_strings(source, KEYS)
    fill(source, [("XADD", "stream", f"{i}-0", "f", "v") for i in range(1, 9)])
    fill(
        source,
        [
            ("XGROUP", "CREATE", "stream", "g", "0"),
            ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream", ">"),
        ],
    )
    _around(source, target, tmp_path, 0)
    _around(target, source, tmp_path, 1)
    _around(source, target, tmp_path, 2)


def _around(here: Server, there: Server, state_dir: Path, number: int) -> None:
    every = Selection(databases=None)
    with led(here, there, state_dir, selection=every) as run:
        run.follows()
        run.do(lambda follower: follower.note_touched(True))
        back = attach(run, here, there, state_dir, selection=every)
        fill(here, [("SET", f"key:{i}", f"before {number}") for i in range(100)])
        fill(here, [("SET", f"late:{number}", "1")], db=number + 1)
        wait_until(
            lambda: ask(there, "EXISTS", f"late:{number}", db=number + 1), "the new database is followed"
        )
        run.follows()
        before = _writes(here)
        switch(run, back, lambda: fill(there, _after()))
        back.follows()
        assert back.told == ["Changes are followed by tracking."], "it was not compared"
        becomes_equal(there, here, databases={0: 0, number + 1: number + 1})
        assert ask(there, "XPENDING", "stream", "g") == ask(here, "XPENDING", "stream", "g")
        # A name without its database is settled in each of them.
        assert _writes(here) - before < KEYS / 4, "what was equal was not written again"
        fill(there, [("XACK", "stream", "g", f"{number + 1}-0")])
        becomes_equal(there, here)


def _after() -> list[tuple[Argument, ...]]:
    return [("SET", f"key:{i}", "after") for i in range(20)] + [("DEL", "key:50"), ("SET", "new", "1")]


def _writes(server: Server) -> int:
    info = ask(server, "INFO", "commandstats")
    assert isinstance(info, bytes)
    names = (b"cmdstat_restore", b"cmdstat_unlink", b"cmdstat_set:", b"cmdstat_xadd", b"cmdstat_hset")
    lines = [line for line in info.splitlines() if line.startswith(names)]
    return sum(int(line.partition(b"calls=")[2].partition(b",")[0]) for line in lines)


def test_attaching_writes_nothing(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, KEYS)
    with led(source, target, tmp_path) as run:
        run.follows()
        before = _writes(source), _writes(target)
        back = attach(run, source, target, tmp_path)
        time.sleep(0.3)
        assert (_writes(source), _writes(target)) == before
        run.do(lambda follower: _drop(run, back))
        fill(source, [("SET", "key:1", "x")])
        becomes_equal(source, target)


def test_between_clusters_and_servers(deployment_pair: tuple[Deployment, Deployment], tmp_path: Path) -> None:
    source, target = deployment_pair
    fill_strings(source, KEYS)
    with led(source, target, tmp_path) as run:
        run.follows()
        run.do(lambda follower: follower.note_touched(True))
        fill(source, [("SET", f"key:{i}", "x") for i in range(100)])
        back = attach(run, source, target, tmp_path)
        fill(source, [("SET", f"key:{i}", "y") for i in range(50, 200)])
        switch(run, back, lambda: fill(target, _after()))
        becomes_equal(target, source)
        assert back.do(lambda follower: follower.watch.generation) == 1


def test_writes_go_on_at_once_on_the_new_side(flushed: Callable[..., Server], tmp_path: Path) -> None:
    """Nothing that is written from the commit on is missed, also while one run ends and the other begins."""
    source, target = flushed("redis-7.0"), flushed("redis-8.2")
    fill_strings(source, KEYS)
    stops: list[bool] = []
    committed: list[bool] = []

    def write() -> None:
        wait_until(lambda: committed, "the commit")
        number = 0
        with target.session() as session:
            while not stops:
                session.pipeline([("SET", f"key:{number % 500}", f"{number}"), ("INCR", "counter")])
                number += 1

    with Beside(write), led(source, target, tmp_path) as run:
        run.follows()
        run.do(lambda follower: follower.note_touched(True))
        back = attach(run, source, target, tmp_path)
        switch(run, back, lambda: committed.append(True))
        back.follows_soon()
        time.sleep(0.3)
        stops.append(True)
        becomes_equal(target, source)
        assert back.do(lambda follower: follower.watch.generation) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_feed_that_is_cut(when: str, flushed: Callable[..., Server], tmp_path: Path) -> None:
    """Before the marks are dropped nothing is lost with it; after that everything is compared."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, KEYS)
    with led(source, target, tmp_path) as run:
        run.follows()
        run.do(lambda follower: follower.note_touched(True))
        back = attach(run, source, target, tmp_path)
        its = _feed_of(target, back)

        def cut() -> None:
            with target.session() as session:
                session.pipeline(
                    [("CLIENT", "KILL", "ID", its), ("SET", "key:1", "unheard"), ("DEL", "key:2")]
                )

        if when == "before":
            ask(target, "CLIENT", "KILL", "ID", its)
            time.sleep(0.2)
            switch(run, back, lambda: fill(target, _after()))
        else:
            switch(run, back, cut)
        becomes_equal(target, source)
        generation = back.do(lambda follower: follower.watch.generation)
        assert generation == (1 if when == "before" else 2)


def test_a_flush_before_it_runs(flushed: Callable[..., Server], tmp_path: Path) -> None:
    """It names no key: everything is compared, as soon as that can be done."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, KEYS)
    with led(source, target, tmp_path) as run:
        run.follows()
        run.do(lambda follower: follower.note_touched(True))
        back = attach(run, source, target, tmp_path)

        def commit() -> None:
            fill(target, [("FLUSHALL",), ("SET", "key:1", "new")])
            until_s = time.monotonic() + 0.3
            while time.monotonic() < until_s:
                back.run.hear()

        switch(run, back, commit)
        becomes_equal(target, source)
        assert keys_of(source) == 1


def _feed_of(server: Server, led_run: Led) -> bytes:
    """The connection on which this run is told of changes: the youngest."""
    listed = ask(server, "CLIENT", "LIST", "TYPE", "pubsub")
    assert isinstance(listed, bytes)
    ids = [int(line.split(b" ")[0].removeprefix(b"id=")) for line in listed.splitlines()]
    return b"%d" % max(ids)


@pytest.mark.parametrize("restarted", ["source", "target"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_that_is_started_anew(
    restarted: str, when: str, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    """While the other way round is only heard, or at the moment of the switch: everything is compared."""
    persists = {"appendonly": "yes", "appendfsync": "always"}
    source, target = start_server("redis-7.0", **persists), start_server("valkey-9.1", **persists)
    fill_strings(source, KEYS)
    which = source if restarted == "source" else target
    with led(source, target, tmp_path) as run:
        run.follows()
        run.do(lambda follower: follower.note_touched(True))
        back = attach(run, source, target, tmp_path)

        def restart() -> None:
            which.kill()
            which.start()

        def commit() -> None:
            fill(target, _after())
            restart()

        if when == "before":
            restart()
            wait_until(lambda: any("generation 2" in told for told in run.told), "it is met again")
            run.follows()
            switch(run, back, lambda: fill(target, _after()))
        else:
            switch(run, back, commit)
        becomes_equal(target, source, within_s=20)


@pytest.mark.parametrize("checkpoint", [True, False])
def test_killed_after_the_commit_everything_is_compared(
    checkpoint: bool, flushed: Callable[..., Server], tmp_path: Path
) -> None:
    """What is found then is no stranger's, although the other side is full of keys."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, KEYS)
    with led(source, target, tmp_path) as run:
        run.follows()
        back = attach(run, source, target, tmp_path)
        run.do(lambda follower: _drop(run, back))
    if not checkpoint:
        for path in tmp_path.glob(f"{back.state.path.stem}*"):
            path.unlink()
    fill(target, _after())
    fill(source, [("SET", "key:100", "a straggler's"), ("DEL", "key:101"), ("SET", "theirs", "1")])
    with led(target, source, tmp_path, equal=True) as again:
        again.follows()
        becomes_equal(target, source)
        assert keys_of(source) == keys_of(target)


def test_who_mirrors_is_known_from_the_other_run(flushed: Callable[..., Server], tmp_path: Path) -> None:
    """Clients that write to both servers do so after the switch, too: that is no reason to compare everything."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, KEYS)
    writer = Writer(source, target)
    writer.announce()
    writer.register(lease_ms=60_000)
    with led(source, target, tmp_path, name="orders") as run:
        run.follows()
        wait_until(lambda: any("the target is followed, too" in told for told in run.told), "it is mirrored")
        run.follows()
        run.do(lambda follower: follower.note_touched(True))
        writer.write("SET", "key:1", "both").run()
        back = attach(run, source, target, tmp_path, name="orders")
        assert run.do(lambda follower: follower.mirrored)
        # In hold its entry says so; a second leg that is late is looked at all the same.
        switch(run, back, lambda: fill(target, _after()))
        becomes_equal(target, source)
        fill(source, [("SET", "key:7", "a second leg in another order")])
        becomes_equal(target, source)
        assert back.do(lambda follower: (follower.mirrored, follower.watch.generation)) == (True, 1)
    writer.close()
    assert compared(target, source).equal


def test_without_dropping_marks_it_is_exact_all_the_same(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, KEYS)
    fill(source, [("XADD", "stream", "1-0", "f", "v"), ("XGROUP", "CREATE", "stream", "g", "0")])
    with led(source, target, tmp_path) as run:
        run.follows()
        attach(run, source, target, tmp_path)
        fill(source, [("SET", f"key:{i}", "x") for i in range(100)])

        def switched(follower: Follower) -> None:
            assert follower.settle_all(gate())
            fill(target, [*_after(), ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream", ">")])

        run.do(switched)
        run.end()
        becomes_equal(target, source)
        fill(target, [("XACK", "stream", "g", "1-0")])
        becomes_equal(target, source)
