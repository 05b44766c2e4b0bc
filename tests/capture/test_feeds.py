"""Both feeds name every change, also after a fence; a feed that was cut says so. On every server."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from changes import CHANGES, Change
from turning import hear, hear_until

from keyferry.capture.feed import Feed, open_feed
from keyferry.capture.kinds import FeedKind
from keyferry.capture.notifications import enable_notifications
from keyferry.model.address import TlsSettings, parse_endpoint
from keyferry.model.identity import Family
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server
from keyferry.testing.tls import TlsTerminator, make_certificates
from keyferry.wire.resp import Argument, ReplyError
from keyferry.wire.session import ConnectionLost, Session

FEEDS = (FeedKind.TRACKING, FeedKind.NOTIFICATIONS)
OpenFeed = Callable[..., Feed]


@pytest.fixture
def attach() -> Iterator[OpenFeed]:
    """``attach(server, kind, databases=None)``: an open feed, closed after the test."""
    with contextlib.ExitStack() as stack:

        def start(server: Server, kind: FeedKind, databases: list[int] | None = None) -> Feed:
            with server.session() as session:
                if kind is FeedKind.NOTIFICATIONS:
                    enable_notifications(session)
                    stack.callback(switch_off, server)
            feed = open_feed(kind, server.session(), databases)
            stack.callback(feed.close)
            return feed

        yield start


def switch_off(server: Server) -> None:
    with contextlib.suppress(ConnectionLost), server.session() as session:
        session.call("CONFIG", "SET", "notify-keyspace-events", "")


def names(feed: Feed) -> set[bytes]:
    return {name for _, name in hear(feed)[0]}


def done(session: Session, *command: Argument) -> None:
    reply = session.call(*command)
    assert not isinstance(reply, ReplyError), reply


@pytest.mark.parametrize("kind", FEEDS)
def test_every_change_is_named(server: Server, attach: OpenFeed, kind: FeedKind) -> None:
    feed = attach(server, kind)
    wrong: list[str] = []
    with server.session() as session:
        for name, change in CHANGES.items():
            if change.known_to(server):
                wrong += _not_named(session, feed, name, change)
    assert not wrong


def _not_named(session: Session, feed: Feed, name: str, change: Change) -> list[str]:
    done(session, "FLUSHALL")
    for command in change.before:
        done(session, *command)
    hear(feed)
    done(session, *change.command)
    missing = change.names - names(feed)
    return [f"{name}: {missing}"] if missing else []


@pytest.mark.parametrize("kind", FEEDS)
def test_reads_are_not_named(server: Server, attach: OpenFeed, kind: FeedKind) -> None:
    feed = attach(server, kind)
    with server.session() as session:
        session.pipeline([("SET", "a", "1"), ("XADD", "s", "1-0", "f", "v")])
        hear(feed)
        session.pipeline([("GET", "a"), ("GET", "none"), ("DUMP", "a"), ("SCAN", 0), ("DEL", "none")])
        assert names(feed) == set()


@pytest.mark.parametrize("kind", FEEDS)
def test_our_own_names_are_left_out(server: Server, attach: OpenFeed, kind: FeedKind) -> None:
    feed = attach(server, kind)
    with server.session() as session:
        session.pipeline([("SET", "keyferry:record", "1"), ("SET", "keyferry", "1")])
        assert names(feed) == {b"keyferry"}


def test_notifications_know_the_database_and_tracking_hears_of_all(server: Server, attach: OpenFeed) -> None:
    tracking = attach(server, FeedKind.TRACKING)
    everywhere = attach(server, FeedKind.NOTIFICATIONS)
    some = attach(server, FeedKind.NOTIFICATIONS, [0, 3])
    for database in (0, 1, 3, 11):
        with server.session(database) as session:
            done(session, "SET", b"k%d:__:\xff\r\n*" % database, "1")
    key = b"k%d:__:\xff\r\n*"
    assert hear(tracking)[0] == {(None, key % database) for database in (0, 1, 3, 11)}
    assert hear(everywhere)[0] == {(database, key % database) for database in (0, 1, 3, 11)}
    assert hear(some)[0] == {(0, key % 0), (3, key % 3)}
    assert (tracking.numbered, everywhere.numbered) == (False, True)


def test_a_move_is_named_in_both_databases(server: Server, attach: OpenFeed) -> None:
    feed = attach(server, FeedKind.NOTIFICATIONS)
    with server.session() as session:
        session.pipeline(
            [("SET", "a", "1"), ("MOVE", "a", "1"), ("SET", "b", "1"), ("COPY", "b", "c", "DB", "2")]
        )
    assert {(1, b"a"), (2, b"c"), (0, b"a")} <= hear(feed)[0]


@pytest.mark.parametrize("flush", ["FLUSHALL", "FLUSHDB"])
def test_a_flush_is_everything_to_tracking_only(server: Server, attach: OpenFeed, flush: str) -> None:
    feeds = [attach(server, kind) for kind in FEEDS]
    with server.session(4) as session:
        done(session, flush)
    assert [hear(feed)[1] for feed in feeds] == [True, False]


@pytest.mark.parametrize("kind", FEEDS)
def test_what_no_feed_names(server: Server, attach: OpenFeed, kind: FeedKind) -> None:
    """The watcher's work; a server that begins to name one of these is welcome, and this test then tells."""
    feed = attach(server, kind)
    with server.session() as session:
        session.pipeline([("XADD", "s", "1-0", "f", "v"), ("XGROUP", "CREATE", "s", "g", "0")])
        done(session, "XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
        hear(feed)
        done(session, "XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", "0")
        done(session, "XCLAIM", "s", "g", "c", "0", "1-0")
        done(session, "XACK", "s", "g", "1-0")
        done(session, "SWAPDB", "0", "1")
        assert hear(feed) == (set(), False)


@pytest.mark.parametrize("kind", FEEDS)
def test_a_blocked_pop_and_what_it_moves(server: Server, attach: OpenFeed, kind: FeedKind) -> None:
    feed = attach(server, kind)
    with server.session() as blocked, server.session() as session:
        waiting = threading.Thread(target=blocked.call, args=("BRPOPLPUSH", "a", "b", "5"))
        waiting.start()
        _wait_for_blocked(session)
        done(session, "RPUSH", "a", "1")
        assert {b"a", b"b"} <= names(feed)
        waiting.join()


def _wait_for_blocked(session: Session) -> None:
    until_s = time.monotonic() + 5
    while time.monotonic() < until_s:
        info = session.call("INFO", "clients")
        if isinstance(info, bytes) and b"blocked_clients:1" in info:
            return
        time.sleep(0.005)
    raise AssertionError("nobody is blocked")


@pytest.mark.parametrize("kind", FEEDS)
def test_active_expiry_is_named(server: Server, attach: OpenFeed, kind: FeedKind) -> None:
    feed = attach(server, kind)
    with server.session() as session:
        done(session, "SET", "a", "1", "PX", "60")
        assert names(feed) == {b"a"}
        named: set[bytes] = set()
        until_s = time.monotonic() + 5
        while b"a" not in named and time.monotonic() < until_s:
            named |= names(feed)
            time.sleep(0.02)
        assert named == {b"a"}
        assert session.call("DBSIZE") == 0


@pytest.mark.parametrize("kind", FEEDS)
def test_lazy_expiry_of_a_field_is_named(server: Server, attach: OpenFeed, kind: FeedKind) -> None:
    if server.binary.family is Family.REDIS and server.binary.version < (7, 4, 0):
        pytest.skip("the server has no expiry of fields")
    feed = attach(server, kind)
    with server.session() as session:
        session.pipeline([("HSET", "a", "f", "1", "g", "1"), ("HPEXPIRE", "a", "50", "FIELDS", "1", "f")])
        hear(feed)
        named: set[bytes] = set()
        until_s = time.monotonic() + 5
        while not named and time.monotonic() < until_s:
            time.sleep(0.05)
            named |= names(feed)
        assert named == {b"a"}


@pytest.mark.parametrize("kind", FEEDS)
@pytest.mark.parametrize("name", ["redis-6.2", "redis-7.0", "redis-8.2", "valkey-9.1"])
def test_eviction_is_named(
    start_server: Callable[..., Server], attach: OpenFeed, kind: FeedKind, name: str
) -> None:
    server = start_server(name, maxmemory_policy="allkeys-random")
    with server.session() as session:
        session.pipeline([("SET", f"k{number}", "x" * 10_000) for number in range(100)])
        feed = attach(server, kind)
        done(session, "CONFIG", "SET", "maxmemory", "1mb")
        session.pipeline([("SET", "last", "1")])
        left = session.call("DBSIZE")
        assert isinstance(left, int)
        assert len(names(feed) - {b"last"}) >= 100 - left > 0


@pytest.mark.parametrize("kind", FEEDS)
def test_transactions_and_many_at_once(server: Server, attach: OpenFeed, kind: FeedKind) -> None:
    feed = attach(server, kind)
    with server.session() as session:
        session.pipeline(
            [
                ("MULTI",),
                ("SET", "a", "1"),
                ("DEL", "a"),
                ("EXEC",),
                ("MULTI",),
                ("SET", "b", "1"),
                ("DISCARD",),
            ]
        )
        assert names(feed) == {b"a"}
        done(session, "EVAL", "for i = 1, 50000 do redis.call('SET', 'k' .. i, i) end", "0")
        assert len(names(feed)) == 50_000


@pytest.mark.parametrize("kind", FEEDS)
@pytest.mark.parametrize("io_threads", [False, True])
@pytest.mark.parametrize("name", ["redis-6.2", "redis-7.0", "redis-8.2", "valkey-9.1"])
def test_after_a_fence_every_acknowledged_write_has_been_named(
    start_server: Callable[..., Server], attach: OpenFeed, kind: FeedKind, name: str, io_threads: bool
) -> None:
    config = {"io_threads": "4"} if io_threads else {}
    server = start_server(name, **config)
    feed = attach(server, kind)
    acknowledged: list[bytes] = []
    stop = threading.Event()

    def write(number: int) -> None:
        with server.session() as session:
            count = 0
            while not stop.is_set():
                key = b"%d:%d" % (number, count)
                done(session, "SET", key, "1")
                acknowledged.append(key)
                count += 1

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    named: set[bytes] = set()
    fences = 0
    until_s = time.monotonic() + 0.8
    while time.monotonic() < until_s:
        before = len(acknowledged)
        named |= names(feed)
        assert not set(acknowledged[:before]) - named
        fences += 1
    stop.set()
    for writer in writers:
        writer.join()
    assert fences > 20
    assert len(acknowledged) > 200


def test_many_fences_at_once_pass_in_order(server: Server, attach: OpenFeed) -> None:
    feed = attach(server, FeedKind.TRACKING)
    fences = [feed.fence() for _ in range(1000)]
    hear_until(feed, lambda: feed.passed(fences[-1]))
    later = feed.fence()
    assert all(feed.passed(fence) for fence in fences)
    assert not feed.passed(later)


@pytest.mark.parametrize("kind", FEEDS)
def test_a_feed_that_is_killed_says_so(server: Server, attach: OpenFeed, kind: FeedKind) -> None:
    feed = attach(server, kind)
    with server.session() as session:
        assert session.call("CLIENT", "KILL", "TYPE", "pubsub") == 1
    with pytest.raises(ConnectionLost):
        hear(feed)


@pytest.mark.parametrize("kind", FEEDS)
@pytest.mark.parametrize("name", ["redis-6.2", "redis-7.0", "redis-8.2", "valkey-9.1"])
def test_a_reader_that_stalls_is_cut_before_it_costs_the_server_memory(
    start_server: Callable[..., Server], attach: OpenFeed, kind: FeedKind, name: str
) -> None:
    server = start_server(name, client_output_buffer_limit="pubsub 1mb 1mb 5")
    feed = attach(server, kind)
    with server.session() as session:
        for _ in range(60):
            done(
                session, "EVAL", "for i = 1, 10000 do redis.call('SET', 'some-longer-name-' .. i, i) end", "0"
            )
            clients = str(session.call("CLIENT", "LIST"))
            if "keyferry-feed" not in clients:
                break
        assert "keyferry-feed" not in clients
    with pytest.raises(ConnectionLost):
        hear(feed)


def test_a_server_that_stands_still_is_lost(start_server: Callable[..., Server], attach: OpenFeed) -> None:
    server = start_server("redis-7.0")
    feed = attach(server, FeedKind.TRACKING)
    server.pause()
    now_s = time.monotonic()
    begin_s = now_s
    with pytest.raises(ConnectionLost, match="silent"):
        while now_s < begin_s + 30:
            now_s += 0.5
            feed.turn(now_s)
    assert now_s >= begin_s + 10


def test_a_loop_that_was_busy_does_not_blame_the_server(server: Server, attach: OpenFeed) -> None:
    feed = attach(server, FeedKind.TRACKING)
    now_s = time.monotonic()
    for _ in range(5):
        now_s += 60.0
        feed.turn(now_s)
    hear(feed)


@pytest.mark.parametrize("kind", FEEDS)
@pytest.mark.parametrize("name", ["redis-6.2", "redis-8.2", "valkey-9.1"])
def test_a_script_that_runs_for_too_long_only_delays_the_fence(
    start_server: Callable[..., Server], attach: OpenFeed, kind: FeedKind, name: str
) -> None:
    server = start_server(name, lua_time_limit="50")
    feed = attach(server, kind)
    script = "local t = redis.call('TIME') redis.call('SET', 'a', 1) repeat local n = redis.call('TIME') until n[1] * 1e6 + n[2] > t[1] * 1e6 + t[2] + 600000"
    with server.session() as session:
        running = threading.Thread(
            target=session.call, args=("EVAL", f"redis.replicate_commands() {script}", "0")
        )
        running.start()
        time.sleep(0.2)
        began_s = time.monotonic()
        assert names(feed) == {b"a"}
        assert time.monotonic() - began_s > 0.1
        running.join()


@pytest.mark.parametrize("kind", FEEDS)
def test_a_feed_over_tls(flushed: Callable[[str], Server], kind: FeedKind, tmp_path: Path) -> None:
    server = flushed("redis-7.0")
    certificates = make_certificates(tmp_path)
    with TlsTerminator(server, certificates) as terminator, server.session() as session:
        enable_notifications(session)
        endpoint = parse_endpoint(terminator.url, TlsSettings(ca_file=str(certificates.ca)))
        feed = open_feed(kind, Session(endpoint, "source"))
        done(session, "EVAL", "for i = 1, 50000 do redis.call('SET', 'k' .. i, i) end", "0")
        assert len(names(feed)) == 50_000
        feed.close()
    switch_off(server)


def test_each_node_of_a_cluster_has_its_own_feed(cluster: Callable[..., Cluster], attach: OpenFeed) -> None:
    for name in ("redis-7.0", "valkey-9.1"):
        nodes = cluster(name).primaries
        for kind in FEEDS:
            feeds = [attach(node, kind) for node in nodes]
            written: list[set[bytes]] = []
            for node in nodes:
                with node.session() as session:
                    keys = [b"k%d" % number for number in range(60)]
                    replies = session.pipeline([("SET", key, "1") for key in keys])
                written.append({key for key, reply in zip(keys, replies, strict=True) if reply == b"OK"})
            assert [names(feed) for feed in feeds] == written
            assert all(written)
