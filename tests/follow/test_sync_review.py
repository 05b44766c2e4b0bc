"""What a reading of `keyferry sync` with fresh eyes found, each with the few commands that it takes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from copying import Beside, ask, fill, fill_strings, keys_of, wait_until
from following import Sync, becomes_equal, syncing
from keyferry.capture.dirty import DirtyKeys
from keyferry.capture.kinds import FeedKind
from keyferry.copy.supply import BigEnd
from keyferry.follow import follower as follower_module
from keyferry.follow.attaching import Attaching
from keyferry.follow.comparisons import Comparisons
from keyferry.follow.engine import Engine
from keyferry.follow.judging import Judge
from keyferry.follow.moved_slots import MovedSlots
from keyferry.follow.source import Followed
from keyferry.follow.supply import DirtySupply
from keyferry.model.errors import RefusedError, ServerAway
from keyferry.model.selection import Selection
from keyferry.payload.exchange import Refused
from keyferry.payload.names import slot
from keyferry.telemetry.following import SyncReport
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument, ReplyError
from keyferry.wire.session import ConnectionLost, Session

Flushed = Callable[..., Server]
SLOW_S = 20.0
"""For what takes a moment on an idle machine."""
PARAMETER = "notify-keyspace-events"


def _before(
    patch: pytest.MonkeyPatch, owner: Any, name: str, do: Callable[..., object], *, once: bool = True
) -> threading.Event:
    """Does something whenever ours is about to begin, or only the first time; what it gives is set when that is done."""
    real = getattr(owner, name)
    done = threading.Event()

    def method(*given: Any, **named: Any) -> Any:
        if not (once and done.is_set()):
            try:
                do(*given)
            finally:
                done.set()
        return real(*given, **named)

    patch.setattr(owner, name, method)
    return done


def _kill_feeds(source: Server, *unheard: tuple[Argument, ...]) -> None:
    """In one go with commands that no feed can hear, therefore."""
    listed = ask(source, "CLIENT", "LIST", "TYPE", "pubsub")
    assert isinstance(listed, bytes)
    ids = [line.split(b" ")[0].removeprefix(b"id=") for line in listed.splitlines()]
    assert ids, "there is a feed"
    fill(source, [*(("CLIENT", "KILL", "ID", number) for number in ids), *unheard])


def _generations(sync: Sync) -> int:
    return sum(": generation " in told for told in sync.told)


def _forgive(sync: Sync) -> None:
    """It ended by itself, as it should."""
    sync.report, sync.error = SyncReport(copied=None), None  # type: ignore[arg-type]


def test_a_gap_is_remembered_when_the_opening_after_it_fails(
    flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. The feed is lost; 2. it is attached again; 3. something else cannot be opened; 4. all is opened."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 200)

    def away(*_: object) -> None:
        raise ServerAway("target", "The connection was reset while it was dialled.")

    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        failed = _before(monkeypatch, Engine, "open_pipeline", away)
        _kill_feeds(source, ("SET", "key:1", "unheard"), ("DEL", "key:2"), ("SET", "new", "1"))
        becomes_equal(source, target, within_s=SLOW_S)
        assert failed.is_set() and _generations(sync) == 1, sync.told


def test_a_feed_that_is_lost_while_something_else_is_waited_for(
    flushed: Flushed, start_server: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at single keys hears the feeds while it waits, and must not pass over one that ends."""
    source, target = flushed("redis-7.0"), start_server("valkey-9.1")
    fill_strings(source, 200)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        lost = _before(monkeypatch, Followed, "detach", lambda *_: None)
        waits = _before(monkeypatch, Judge, "differing", lambda *_: target.pause())
        until_s = time.monotonic() + SLOW_S
        while not waits.wait(0.2):  # its own feed of the target may not be attached yet
            assert time.monotonic() < until_s, "the write of somebody else is looked at"
            ask(target, "SET", "key:5", "somebody else's")
        _kill_feeds(source, ("SET", "key:1", "unheard"), ("DEL", "key:2"))
        assert lost.wait(SLOW_S), "the end of the feed is seen while the target stands still"
        target.resume()
        becomes_equal(source, target, within_s=SLOW_S)
        fill(source, [("SET", "key:3", "heard")])
        becomes_equal(source, target, within_s=SLOW_S)


def test_notifications_that_are_switched_off_and_on(
    flushed: Flushed, start_server: Flushed, tmp_path: Path
) -> None:
    """They are waited for; then everything is compared, once."""
    source, target = start_server("redis-7.0", notify_keyspace_events="KA"), flushed("valkey-9.1")
    fill_strings(source, 200)
    with syncing(source, target, tmp_path, feed=FeedKind.NOTIFICATIONS) as sync:
        sync.follows()
        ask(source, "CONFIG", "SET", PARAMETER, "")
        ask(source, "SET", "key:1", "unheard")
        sync.was_told("switched off", SLOW_S)
        time.sleep(0.5)  # no generation begins while nothing can be heard
        assert _generations(sync) == 0, sync.told
        ask(source, "CONFIG", "SET", PARAMETER, "KA")
        becomes_equal(source, target, within_s=SLOW_S)
        assert _generations(sync) == 1, sync.told


@pytest.mark.parametrize("killed", [False, True])
def test_notifications_are_put_back_by_a_later_feed(
    flushed: Flushed, start_server: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """What the second feed finds set is the first one's work, of this run or of one that was killed."""
    source, target = start_server("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 200)

    def run(*, cut: bool) -> None:
        with syncing(
            source, target, tmp_path, feed=FeedKind.NOTIFICATIONS, enable_notifications=True
        ) as sync:
            sync.follows()
            assert ask(source, "CONFIG", "GET", PARAMETER) == [PARAMETER.encode(), b"AK"]
            if cut:
                _kill_feeds(source)
                sync.was_told("generation 2", SLOW_S)
                sync.follows()

    if killed:
        with monkeypatch.context() as patch:
            patch.setattr(Attaching, "restore", lambda self: None)
            run(cut=False)
    run(cut=not killed)
    assert ask(source, "CONFIG", "GET", PARAMETER) == [PARAMETER.encode(), b""]


def test_a_primary_of_the_source_that_is_started_anew_before_all_is_open(
    start_cluster: Callable[..., Cluster],
    flushed: Flushed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it holds is scanned or compared, though its first feed never followed anything."""
    source, target = start_cluster("redis-7.0", 2), flushed("valkey-9.1")
    fill_strings(source, 500)
    restarted = _before(
        monkeypatch, follower_module, "check_processes", lambda *_: source.restart(0, keep_data=True)
    )
    with syncing(source, target, tmp_path, retry_s=60.0) as sync:
        assert restarted.wait(60.0)
        becomes_equal(source, target, within_s=60.0)
        sync.follows()


def test_a_sync_goes_on_with_the_extras_that_it_began_with(flushed: Flushed, tmp_path: Path) -> None:
    """Whether keys of the target go or stay cannot be changed on the way, and is said again."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 200)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        becomes_equal(source, target)
    fill(target, [("SET", f"theirs:{i}", "x") for i in range(50)])
    with syncing(source, target, tmp_path, keep_extra=True) as sync:
        assert isinstance(found := sync.wait(), RefusedError) and "--restart" in found.hint, found
        _forgive(sync)
    assert keys_of(target) == 250
    with syncing(source, target, tmp_path) as sync:
        sync.was_told("50 keys that the source does not have any more: they are going to be deleted", SLOW_S)
        becomes_equal(source, target, within_s=SLOW_S)


def test_other_data_at_the_address_of_the_target_is_not_deleted_on_resume(
    flushed: Flushed, start_server: Flushed, tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), start_server("valkey-9.1", save="")
    fill_strings(source, 200)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
    target.restart(keep_data=False)
    fill_strings(target, 500, prefix=b"theirs:")
    with syncing(source, target, tmp_path) as sync:
        assert isinstance(found := sync.wait(), RefusedError) and "500 keys" in found.message, found
        _forgive(sync)
    assert keys_of(target) == 500


def test_a_big_key_that_is_named_while_its_carry_is_refused() -> None:
    """What changed after the carry began has not been carried."""
    dirty = DirtyKeys(10)
    supply = DirtySupply(dirty, lambda keys: None)
    dirty.mark([b"k"], 0.0)
    assert dirty.take(10, 1.0) == [b"k"]
    supply.hand_over(b"k", 10**7)
    now = time.monotonic() + 1
    assert supply.take_big(now) is not None
    dirty.mark([b"k"], now + 1)
    supply.ended_big(b"k", BigEnd(settled=False, refused=Refused("no room", "ERR", "target")), now + 2)
    assert dirty.bigs.is_dirty(b"k") and supply.failures == {b"k": "no room"}
    assert supply.take_big(now + 100) is not None


def test_a_key_that_rests_turns_out_to_be_big() -> None:
    """SCAN hands it over; from then on it is not carried as a small one beside."""
    dirty = DirtyKeys(10)
    dirty.mark([b"k"], 0.0)
    assert dirty.take(10, 1.0) == [b"k"]
    dirty.arrived([b"k"], 1.0)
    dirty.hand_over(b"k", 10**7, 1.1)
    assert dirty.bigs.take(1.2) is not None
    dirty.mark([b"k"], 1.3)
    assert dirty.take(10, 100.0) == [], "it flies as a big one"
    assert dirty.bigs.names[b"k"].since_s == 1.3


def test_keys_that_are_of_another_type_after_a_gap(flushed: Flushed, tmp_path: Path) -> None:
    """With --type a key that is a string now is gone, as far as hashes are concerned."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill(source, [("HSET", f"h:{i}", "f", "v") for i in range(50)])
    with syncing(source, target, tmp_path, selection=Selection(types=("hash",))) as sync:
        sync.follows()
        assert keys_of(target) == 50
        _kill_feeds(source, ("DEL", "h:1"), ("SET", "h:1", "a string"), ("DEL", "h:2"))
        sync.was_told("generation 2", SLOW_S)
        wait_until(lambda: ask(target, "EXISTS", "h:1", "h:2") == 0, "both are gone on the target", SLOW_S)
        assert keys_of(target) == 48


def test_a_target_that_is_flushed_while_it_is_filled(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 2000)
    with syncing(source, target, tmp_path, max_rate=2000.0) as sync:
        wait_until(lambda: keys_of(target) > 500, "a part is copied")
        assert sync.last.stage == "copying"
        ask(target, "FLUSHALL")
        sync.was_told("flushed while it was filled", SLOW_S)
        becomes_equal(source, target, within_s=SLOW_S)


def test_a_big_key_whose_slot_moves_away(
    start_cluster: Callable[..., Cluster], flushed: Flushed, tmp_path: Path
) -> None:
    """It is no more that node's affair; it must not be asked for there again and again."""
    source, target = start_cluster("redis-7.0", 2), flushed("valkey-9.1")
    fill(source, [("SADD", "big", *(f"member {i}" for i in range(5000)))])
    with syncing(source, target, tmp_path, big_key_bytes=50_000, big_key_members=1000) as sync:
        sync.follows()
        becomes_equal(source, target)
        index = source.primaries.index(source.owner_of(slot(b"big")))
        fill(source, [("SADD", "big", "more")])
        source.move_slot(slot(b"big"), 1 - index)
        sync.was_told("1 slot of the source moved", SLOW_S)
        fill(source, [("SADD", "big", "and more")])
        becomes_equal(source, target, within_s=SLOW_S)
        sync.follows()


def test_a_look_at_the_cluster_that_comes_before_ours(
    start_cluster: Callable[..., Cluster],
    flushed: Flushed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1. A replica takes over; 2. a look at single keys learns that; 3. the old primary is followed still."""
    source, target = start_cluster("redis-7.0", 2, 1), flushed("valkey-9.1")
    fill_strings(source, 500)
    with syncing(source, target, tmp_path, retry_s=60.0) as sync:
        sync.follows()
        _before(
            monkeypatch, MovedSlots, "look", lambda slots, *_: slots._sides.discover("source"), once=False
        )
        source.fail_over(0)
        fill(source, [("SET", f"key:{i}", "new") for i in range(0, 500, 7)])
        becomes_equal(source, target, within_s=60.0)


@contextlib.contextmanager
def _busy(server: Server) -> Iterator[None]:
    """A script that does not end, until the block does."""

    def spin() -> None:
        with server.session() as session:
            reply = session.call("EVAL", "while true do end", 0)
            assert isinstance(reply, ReplyError), reply

    with contextlib.ExitStack() as stack:
        # Before the script begins, for then nobody is let in; and more than one: now and then Valkey lets a client that
        # asked in the moment of its beginning wait for its end.
        others = [stack.enter_context(server.session(timeout_s=1.0)) for _ in range(5)]
        stack.enter_context(Beside(spin))
        session = _told_of_the_script(others)
        try:
            yield
        finally:
            wait_until(lambda: session.call("SCRIPT", "KILL") == b"OK", "the script ends")


def _told_of_the_script(sessions: list[Session]) -> Session:
    """The first whose PING is answered with BUSY."""
    deadline_s = time.monotonic() + SLOW_S
    while sessions and time.monotonic() < deadline_s:
        try:
            reply = sessions[0].call("PING")
        except ConnectionLost:
            del sessions[0]
            continue
        if isinstance(reply, ReplyError) and reply.message.startswith("BUSY"):
            return sessions[0]
    raise AssertionError("the script does not run")


def test_a_target_that_is_busy_before_the_sync_has_begun(
    flushed: Flushed, start_server: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its keys are counted. The sync ends with a sentence, not with a trace."""
    source, target = flushed("redis-7.0"), start_server("valkey-9.1", lua_time_limit="50")
    fill_strings(source, 100)
    fill_strings(target, 10_000, prefix=b"theirs:")
    turns: list[int] = []

    def turn(*_: object) -> None:
        turns.append(1)
        if len(turns) == 3:  # its passes are open, and have most of the keys to go over
            stack.enter_context(_busy(target))

    with contextlib.ExitStack() as stack:
        _before(monkeypatch, Comparisons, "turn", turn, once=False)
        with syncing(source, target, tmp_path, on_conflict="replace", max_rate=1000.0) as sync:
            found = sync.wait()
            assert isinstance(found, ServerAway) and "busy" in found.message.lower() and found.hint, found
            _forgive(sync)


def test_functions_that_go_and_move_to_another_library(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)

    def load(library: str, function: str) -> tuple[Argument, ...]:
        register = f"redis.register_function('{function}', function() return 1 end)"
        return "FUNCTION", "LOAD", f"#!lua name={library}\n{register}"

    def libraries(server: Server) -> set[bytes]:
        listed = ask(server, "FUNCTION", "LIST")
        assert isinstance(listed, list)
        return {one[one.index(b"library_name") + 1] for one in listed if isinstance(one, list)}  # type: ignore[misc]

    fill(source, [load("a", "f"), load("b", "g")])
    with syncing(source, target, tmp_path, functions=True) as sync:
        wait_until(lambda: libraries(target) == {b"a", b"b"}, "both are carried", SLOW_S)
        sync.follows()
        ask(source, "FUNCTION", "DELETE", "a")
        wait_until(lambda: libraries(target) == {b"b"}, "the one that went is gone", SLOW_S)
        fill(source, [("FUNCTION", "DELETE", "b"), load("c", "g")])
        wait_until(lambda: libraries(target) == {b"c"}, "the function is in another library", SLOW_S)


def test_a_key_of_the_target_that_the_source_has_taken_over_goes_with_it(
    flushed: Flushed, tmp_path: Path
) -> None:
    """--keep-extra keeps what only the target has; not what was the source's, and went in a gap."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 100)
    fill(target, [("SET", "x", "theirs"), ("SET", "y", "theirs")])
    with syncing(source, target, tmp_path, on_conflict="replace", keep_extra=True) as sync:
        sync.follows()
        ask(source, "SET", "x", "ours")
        wait_until(lambda: ask(target, "GET", "x") == b"ours", "x is the source's now", SLOW_S)
        sync.follows()
        _kill_feeds(source, ("DEL", "x"))
        sync.was_told("generation 2", SLOW_S)
        wait_until(lambda: ask(target, "EXISTS", "x") == 0, "x is gone", SLOW_S)
        assert ask(target, "GET", "y") == b"theirs"


def test_who_owns_a_key_that_is_kept_may_write_it(flushed: Flushed, tmp_path: Path) -> None:
    """With --keep-extra it is not ours to put back; what was not there before is."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 100)
    fill(target, [("SET", "kept", "theirs")])
    with syncing(source, target, tmp_path, on_conflict="replace", keep_extra=True) as sync:
        sync.follows()
        until_s = time.monotonic() + SLOW_S
        turn = 0
        while not sync.last.foreign_keys:  # our feed of the target may not be attached yet
            assert time.monotonic() < until_s, sync.told
            turn += 1
            fill(target, [("SET", "kept", turn), ("SET", f"new:{turn}", turn)])
            time.sleep(0.2)
        fill(target, [("SET", "kept", "last"), ("SET", "new:last", "x")])
        wait_until(lambda: ask(target, "EXISTS", "new:last") == 0, "what is not kept goes", SLOW_S)
        assert ask(target, "GET", "kept") == b"last"
        assert not any("target: kept" in told for told in sync.told)


def test_a_kept_key_whose_name_changes_in_another_database(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    """Tracking names no database: the change of database 0 makes the name dirty in database 1 as well."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill(source, [("SET", "a", "1")])
    fill(source, [("SET", "b", "1")], db=1)
    fill(target, [("SET", "theirs", "kept")], db=1)
    selection = Selection(databases=(0, 1))
    given: dict[str, Any] = {"on_conflict": "replace", "keep_extra": True, "selection": selection}
    with syncing(source, target, tmp_path, **given) as sync:
        sync.follows()
        fill(source, [("SET", "theirs", "of database 0")])
        wait_until(lambda: ask(target, "GET", "theirs") == b"of database 0", "the change arrives")
        fill(source, [("SET", "a", "2")])
        wait_until(lambda: ask(target, "GET", "a") == b"2", "a later one, too")
        assert ask(target, "GET", "theirs", db=1) == b"kept"
