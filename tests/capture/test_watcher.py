"""What no feed names is found: every command of stream groups, SWAPDB, flushes, functions; on every server."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from turning import look, turn

from keyferry.capture.stream_groups import StreamBook
from keyferry.capture.watcher import RIGHTS, Watcher
from keyferry.model.identity import Family
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument, ReplyError
from keyferry.wire.session import ConnectionLost, Session

Command = tuple[Argument, ...]

ENTRIES = 6
QUIET_S = 0.05
"""Longer than the slack for the server's clock."""

COMMANDS: dict[str, Command] = {
    "XREADGROUP new": ("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", ">"),
    "XREADGROUP history": ("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", "0"),
    "XREADGROUP NOACK": ("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "NOACK", "STREAMS", "s", ">"),
    "XREADGROUP another": ("XREADGROUP", "GROUP", "g", "d", "COUNT", "1", "STREAMS", "s", ">"),
    "XACK": ("XACK", "s", "g", "1-0"),
    "XCLAIM from another": ("XCLAIM", "s", "g", "d", "0", "1-0"),
    "XCLAIM from itself": ("XCLAIM", "s", "g", "c", "0", "1-0"),
    "XCLAIM JUSTID": ("XCLAIM", "s", "g", "c", "0", "1-0", "JUSTID"),
    "XCLAIM RETRYCOUNT": ("XCLAIM", "s", "g", "c", "0", "1-0", "RETRYCOUNT", "9", "IDLE", "70000", "JUSTID"),
    "XCLAIM FORCE": ("XCLAIM", "s", "g", "c", "0", "5-0", "FORCE"),
    "XCLAIM LASTID": ("XCLAIM", "s", "g", "c", "0", "1-0", "LASTID", "5-0"),
    "XAUTOCLAIM": ("XAUTOCLAIM", "s", "g", "c", "0", "0", "COUNT", "1"),
    "XAUTOCLAIM JUSTID": ("XAUTOCLAIM", "s", "g", "c", "0", "0", "COUNT", "1", "JUSTID"),
    "XGROUP CREATE": ("XGROUP", "CREATE", "s", "h", "0"),
    "XGROUP SETID": ("XGROUP", "SETID", "s", "g", "1-0"),
    "XGROUP CREATECONSUMER": ("XGROUP", "CREATECONSUMER", "s", "g", "e"),
    "XGROUP DELCONSUMER": ("XGROUP", "DELCONSUMER", "s", "g", "c"),
    "XGROUP DESTROY": ("XGROUP", "DESTROY", "s", "g"),
    "XSETID": ("XSETID", "s", "99-0"),
    "XACK in a script": ("EVAL", "return redis.call('XACK', KEYS[1], 'g', '1-0')", "1", "s"),
}


@pytest.fixture
def watch() -> Iterator[Callable[..., Watcher]]:
    """``watch(server)``: its watcher, closed after the test."""
    made: list[Watcher] = []

    def start(server: Server, every_s: float = 0.01, **more: bool) -> Watcher:
        made.append(Watcher(server.session(), every_s, **more))
        return made[-1]

    yield start
    for watcher in made:
        watcher.close()


def fill(session: Session, key: str = "s") -> None:
    commands: list[Command] = [("XADD", key, f"{number}-0", "f", "v") for number in range(1, ENTRIES + 1)]
    commands.append(("XGROUP", "CREATE", key, "g", "0"))
    commands.append(("XREADGROUP", "GROUP", "g", "c", "COUNT", "3", "STREAMS", key, ">"))
    for reply in session.pipeline(commands):
        assert not isinstance(reply, ReplyError)


def settled(
    watch: Callable[..., Watcher], server: Server, session: Session, keys: tuple[str, ...] = ("s",)
) -> Watcher:
    """A watcher that has looked at these streams, and sees no more change."""
    watcher = watch(server)
    for key in keys:
        fill(session, key)
    watcher.add_streams(0, [key.encode() for key in keys])
    time.sleep(QUIET_S)
    assert {name for _, name in look(watcher).streams} == {key.encode() for key in keys}
    return watcher


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_each_command_is_seen(server: Server, watch: Callable[..., Watcher], command: Command) -> None:
    with server.session() as session:
        watcher = settled(watch, server, session)
        time.sleep(QUIET_S)
        assert look(watcher).streams == []
        assert not isinstance(session.call(*command), ReplyError)
        assert look(watcher).streams == [(0, b"s")]


def test_xackdel_is_seen(server: Server, watch: Callable[..., Watcher]) -> None:
    if server.binary.family is not Family.REDIS or server.binary.version < (8, 2, 0):
        pytest.skip("the server does not have it")
    with server.session() as session:
        watcher = settled(watch, server, session)
        done = session.call("XACKDEL", "s", "g", "KEEPREF", "IDS", "1", "1-0")
        assert not isinstance(done, ReplyError)
        assert look(watcher).streams == [(0, b"s")]


def test_only_the_stream_that_changed_is_seen_and_only_once(
    server: Server, watch: Callable[..., Watcher]
) -> None:
    with server.session() as session:
        watcher = settled(watch, server, session, ("s", "t", "u"))
        session.call("XACK", "t", "g", "1-0")
        assert look(watcher).streams == [(0, b"t")]
        assert look(watcher).streams == []


def test_groups_that_come_and_go_between_two_looks_count_for_every_stream(
    server: Server, watch: Callable[..., Watcher]
) -> None:
    with server.session() as session:
        watcher = settled(watch, server, session, ("s", "t"))
        session.pipeline([("XGROUP", "CREATE", "s", "h", "0"), ("XGROUP", "DESTROY", "s", "h")])
        assert (0, b"s") in look(watcher).streams


def test_many_streams_in_many_databases_with_many_groups(
    server: Server, watch: Callable[..., Watcher]
) -> None:
    watcher = watch(server)
    keys = [b"s%d" % number for number in range(300)]
    for database in (0, 3):
        with server.session(database) as session:
            for reply in session.pipeline(
                [
                    command
                    for key in keys
                    for command in (
                        ("XADD", key, "*", "f", "v"),
                        ("XGROUP", "CREATE", key, "g", "0"),
                        ("XGROUP", "CREATE", key, "h", "0"),
                    )
                ]
            ):
                assert not isinstance(reply, ReplyError)
        watcher.add_streams(database, keys)
        watcher.add_streams(database, keys)
    assert watcher.streams == 600
    assert len(look(watcher).streams) == 600
    assert look(watcher).streams == []
    with server.session(3) as session:
        session.call("XREADGROUP", "GROUP", "h", "c", "STREAMS", "s123", ">")
    assert look(watcher).streams == [(3, b"s123")]


def test_streams_wait_for_their_first_look_until_groups_are_used(
    server: Server, watch: Callable[..., Watcher]
) -> None:
    with server.session() as session:
        fill(session)
        watcher = watch(server)
        watcher.add_streams(0, [b"s"])
        assert look(watcher).streams == []
        session.call("XACK", "s", "g", "1-0")
        assert look(watcher).streams == [(0, b"s")]
        fill(session, "late")
        assert (0, b"s") in look(watcher).streams
        watcher.add_streams(0, [b"late"])
        assert look(watcher).streams == [(0, b"late")]


def test_a_stream_that_is_gone_is_dropped(server: Server, watch: Callable[..., Watcher]) -> None:
    with server.session() as session:
        watcher = settled(watch, server, session, ("s", "t", "u"))
        session.pipeline([("DEL", "s"), ("SET", "t", "text"), ("XACK", "u", "g", "1-0")])
        assert look(watcher).streams == [(0, b"u")]
        assert watcher.streams == 1


def test_what_is_used_all_the_time_is_seen_within_the_usual_pauses(
    server: Server, watch: Callable[..., Watcher]
) -> None:
    with server.session() as session:
        watcher = settled(watch, server, session)
        session.call("XGROUP", "SETID", "s", "g", "1-0")
        until_s = time.monotonic() + 4
        seen = watcher.take()
        while not seen.streams and time.monotonic() < until_s:
            turn(watcher)
            seen = watcher.take()
        assert seen.streams == [(0, b"s")]


def test_swaps_flushes_and_figures(server: Server, watch: Callable[..., Watcher]) -> None:
    with server.session() as session:
        session.pipeline([("SET", "a", "1"), ("SELECT", 2), ("MSET", "b", "1", "c", "1")])
        watcher = watch(server)
        seen = look(watcher)
        assert (seen.swapped, seen.flushed, seen.functions) == (False, False, False)
        assert seen.keys == {0: 1, 2: 2}
        assert len(seen.run_id) == 40
        assert seen.used_memory > 0
        session.call("SWAPDB", 0, 2)
        seen = look(watcher)
        assert (seen.swapped, seen.flushed, seen.keys) == (True, False, {0: 2, 2: 1})
        session.call("FLUSHDB")
        seen = look(watcher)
        assert (seen.swapped, seen.flushed) == (False, True)
        session.call("FLUSHALL")
        assert look(watcher).flushed
        assert not look(watcher).flushed


def test_functions(server: Server, watch: Callable[..., Watcher]) -> None:
    if server.binary.family is Family.REDIS and server.binary.version < (7, 0, 0):
        pytest.skip("the server has no functions")
    library = "#!lua name=l\nredis.register_function('f', function() return 1 end)"
    with server.session() as session:
        watcher = watch(server)
        session.call("FUNCTION", "LIST")
        session.call("FUNCTION", "DUMP")
        assert not look(watcher).functions
        assert session.call("FUNCTION", "LOAD", library) == b"l"
        assert look(watcher).functions
        session.call("FUNCTION", "DELETE", "l")
        assert look(watcher).functions


def test_counters_that_were_reset_mean_everything(server: Server, watch: Callable[..., Watcher]) -> None:
    watcher = watch(server)
    look(watcher)
    with server.session() as session:
        session.pipeline([("SWAPDB", 0, 1), ("CONFIG", "RESETSTAT")])
    seen = look(watcher)
    assert (seen.swapped, seen.flushed, seen.functions) == (True, True, True)


def test_a_server_that_shows_nothing_is_told_once_and_streams_are_swept(
    server: Server, watch: Callable[..., Watcher]
) -> None:
    with server.session() as session:
        fill(session)
        session.call("ACL", "SETUSER", "shy", "on", ">pw", "~*", "+@all", "-info")
        try:
            own = server.session()
            assert own.call("AUTH", "shy", "pw") == b"OK"
            watcher = Watcher(own, 0.01)
            watcher.add_streams(0, [b"s"])
            seen = look(watcher)
            assert "commandstats" in seen.blind[0]
            assert seen.streams == [(0, b"s")]
            time.sleep(QUIET_S)
            look(watcher)
            time.sleep(QUIET_S)
            session.call("XACK", "s", "g", "1-0")
            seen = look(watcher)
            assert seen.blind == []
            assert seen.streams == [(0, b"s")]
            assert look(watcher).streams == []
            watcher.close()
        finally:
            session.call("ACL", "DELUSER", "shy")


def test_a_user_without_xinfo_reads_every_stream_again(server: Server) -> None:
    with server.session() as session:
        session.call("ACL", "SETUSER", "shy", "on", ">pw", "~*", "+@all", "-xinfo")
        try:
            own = server.session()
            assert own.call("AUTH", "shy", "pw") == b"OK"
            watcher = Watcher(own, 0.01)
            fill(session)
            watcher.add_streams(0, [b"s"])
            seen = look(watcher)
            assert "XINFO" in seen.blind[0]
            session.call("XACK", "s", "g", "1-0")
            assert look(watcher).streams == [(0, b"s")]
            watcher.close()
        finally:
            session.call("ACL", "DELUSER", "shy")


def test_notifications_that_somebody_switches_off_are_noticed(
    server: Server, watch: Callable[..., Watcher]
) -> None:
    with server.session() as session:
        session.call("CONFIG", "SET", "notify-keyspace-events", "KA")
        watcher = watch(server, notifications=True)
        assert not look(watcher).silent
        session.call("CONFIG", "SET", "notify-keyspace-events", "")
        assert look(watcher).silent


def test_a_server_that_is_gone(start_server: Callable[..., Server], watch: Callable[..., Watcher]) -> None:
    server = start_server("redis-7.0")
    watcher = watch(server)
    server.kill()
    with pytest.raises(ConnectionLost):
        look(watcher)


def test_a_server_that_stands_still(
    start_server: Callable[..., Server], watch: Callable[..., Watcher]
) -> None:
    server = start_server("redis-7.0")
    watcher = watch(server)
    watcher.turn(0.0)
    server.pause()
    now_s = 0.0
    with pytest.raises(ConnectionLost, match="silent"):
        while now_s < 30:
            now_s += 0.5
            watcher.turn(now_s)
    assert now_s >= 10


@pytest.mark.parametrize("name", ["redis-6.2", "redis-8.2", "valkey-9.1"])
def test_a_script_that_runs_for_too_long_only_delays_a_look(
    start_server: Callable[..., Server], watch: Callable[..., Watcher], name: str
) -> None:
    server = start_server(name, lua_time_limit="50")
    with server.session() as session:
        watcher = settled(watch, server, session)
        script = (
            "redis.replicate_commands() local t = redis.call('TIME') redis.call('XACK', 's', 'g', '1-0') "
            "repeat local n = redis.call('TIME') until n[1] * 1e6 + n[2] > t[1] * 1e6 + t[2] + 500000"
        )
        running = threading.Thread(target=session.call, args=("EVAL", script, "0"))
        running.start()
        time.sleep(0.2)
        seen = look(watcher)
        assert (seen.streams, seen.blind, seen.swapped) == ([(0, b"s")], [], False)
        running.join()


def test_the_rights_that_are_named_are_enough(server: Server) -> None:
    with server.session() as session:
        reply = session.call("ACL", "SETUSER", "shy", "reset", "on", ">pw", "~*", *RIGHTS.split())
        assert reply == b"OK", reply
        own = server.session()
        assert own.call("AUTH", "shy", "pw") == b"OK"
        watcher = Watcher(own, 0.01)
        fill(session)
        watcher.add_streams(0, [b"s"])
        seen = look(watcher)
        assert (seen.streams, seen.blind) == ([(0, b"s")], [])
        watcher.close()
        session.call("ACL", "DELUSER", "shy")


def test_there_is_room_for_so_many_streams_only() -> None:
    book = StreamBook(streams_max=3)
    assert book.add(0, [b"a", b"b"])
    assert not book.add(1, [b"a", b"b"])
    assert book.add(0, [b"a", b"b"])
    assert len(book) == 3
    book.drop((0, b"a"))
    assert book.add(1, [b"b"])


def test_a_stream_costs_what_is_promised() -> None:
    names = [b"stream:%09d" % number for number in range(50_000)]
    tracemalloc.start()
    book = StreamBook()
    book.add(0, names)
    most = tracemalloc.get_traced_memory()[0]
    for number, name in enumerate(names):
        book.note((0, name), hash((number, "x")))
    least = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert max(most, least) / len(names) < 150
