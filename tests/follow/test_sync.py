"""What changes on the source arrives on the target, whatever it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from copying import ask, fill, fill_strings, keys_of, wait_until
from following import becomes_equal, syncing
from keyferry.model.errors import RefusedError, UsageError
from keyferry.model.selection import Selection
from keyferry.telemetry.following import SyncReport
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument

CHANGES: list[tuple[Argument, ...]] = [
    ("SET", "key:1", "new"),
    ("DEL", "key:2"),
    ("EXPIRE", "key:3", 1000),
    ("PERSIST", "expires"),
    ("RENAME", "key:4", "renamed"),
    ("SADD", "set", "a", "b"),
    ("SPOP", "set"),
    ("LPUSH", "list", "1", "2", "3"),
    ("RPOP", "list"),
    ("ZADD", "zset", "1.5", "a", "2", "b"),
    ("HSET", "hash", "f", "1", "g", "2"),
    ("HDEL", "hash", "f"),
    ("XADD", "stream", "*", "f", "v"),
    ("PFADD", "uniques", "a", "b"),
    ("SETBIT", "bits", 1000, 1),
    ("APPEND", "key:5", "more"),
    ("INCR", "counter"),
    ("SET", "soon", "x", "PX", 300),
    ("DEL", "key:6"),
    ("SADD", "key:6", "was a string"),
    ("EVAL", "redis.call('SET', KEYS[1], 'by script') redis.call('DEL', KEYS[2])", 2, "key:7", "key:8"),
    ("MULTI",),
    ("SET", "key:9", "in one"),
    ("INCR", "counter"),
    ("EXEC",),
    ("SORT", "list", "STORE", "sorted"),
    ("COPY", "key:10", "copied"),
    ("GETEX", "key:11", "PX", 400),
    ("SET", b"\x00 bin\xff", "x"),
    ("SET", "", "empty name"),
]


def _prepare(source: Server) -> None:
    fill_strings(source, 2000)
    fill(source, [("SET", "expires", "x", "EX", 5000)])


def test_every_kind_of_change_arrives(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = server_pair
    _prepare(source)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        becomes_equal(source, target)
        fill(source, CHANGES)
        time.sleep(0.5)  # soon and key:11 expire
        becomes_equal(source, target)
    assert keys_of(target) == keys_of(source)


def test_until_synced_ends_by_itself_with_a_verification(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    _prepare(source)
    with syncing(source, target, tmp_path, until_synced=True) as sync:
        report = sync.wait()
    assert isinstance(report, SyncReport)
    assert report.synced and report.verified >= 2 * 2001 and not report.failed
    becomes_equal(source, target)


def test_a_second_run_compares_and_deletes_what_went_meanwhile(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-6.2")
    _prepare(source)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
    fill(
        source,
        [("DEL", "key:0"), ("SET", "key:1", "changed"), ("SET", "new", "1"), ("PEXPIRE", "key:3", 99_000)],
    )
    with target.session() as session:
        session.call("CONFIG", "RESETSTAT")
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        becomes_equal(source, target)
        assert sync.last.settled_keys <= 10, "what is equal is not written again"
    assert any("earlier run" in told for told in sync.told)


def test_foreign_keys_are_refused_kept_or_deleted(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 100)
    fill(target, [("SET", "theirs", "1"), ("SET", "key:1", "theirs"), ("SADD", "more", "1")])
    with syncing(source, target, tmp_path / "a") as sync:
        assert isinstance(sync.wait(), RefusedError)
        sync.error, sync.report = None, SyncReport(copied=None)  # type: ignore[arg-type]
    with syncing(source, target, tmp_path / "b", on_conflict="skip") as sync:
        assert isinstance(sync.wait(), UsageError)
        sync.error, sync.report = None, SyncReport(copied=None)  # type: ignore[arg-type]
    assert ask(target, "GET", "theirs") == b"1"
    with syncing(source, target, tmp_path / "c", on_conflict="replace", keep_extra=True) as sync:
        sync.follows()
        assert any("2 keys that the source does not have: they are kept" in told for told in sync.told)
        assert (ask(target, "GET", "theirs"), ask(target, "EXISTS", "more")) == (b"1", 1)
        wait_until(lambda: ask(target, "GET", "key:1") != b"theirs", "key:1 is replaced")
    with syncing(source, target, tmp_path / "d", on_conflict="replace") as sync:
        sync.follows()
        assert any(
            "2 keys that the source does not have: they are going to be deleted" in t for t in sync.told
        )
        becomes_equal(source, target)
    with syncing(source, target, tmp_path / "e", on_conflict="replace") as sync:
        sync.follows()
        assert not any("that the source does not have" in told for told in sync.told)


def test_databases_and_their_mapping(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    for database in (0, 3):
        fill_strings(source, 300, db=database)
    selection = Selection(databases=None, database_map={3: 5})
    with syncing(source, target, tmp_path, selection=selection) as sync:
        sync.follows()
        fill(source, [("SET", "key:1", "in 3"), ("DEL", "key:2")], db=3)
        fill(
            source, [("SET", "key:1", "in 0"), ("MOVE", "key:7", 3), ("DEL", "key:9"), ("MOVE", "key:10", 3)]
        )
        fill(source, [("SET", "later", "1")], db=7)
        becomes_equal(source, target, databases={0: 0, 3: 5, 7: 7})
        fill(source, [("FLUSHDB",)], db=3)
        becomes_equal(source, target, databases={0: 0, 3: 5, 7: 7})
        fill(source, [("SWAPDB", 0, 7)])
        becomes_equal(source, target, databases={0: 0, 3: 5, 7: 7})


def test_a_selection_by_name_and_type(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-6.2")
    fill(
        source,
        [
            ("SET", "a:1", "1"),
            ("HSET", "a:h", "f", "1"),
            ("HSET", "b:h", "f", "1"),
            ("HSET", "a:i", "f", "1"),
        ],
    )
    selection = Selection(match=(b"a:*",), types=("hash",))
    with syncing(source, target, tmp_path, selection=selection) as sync:
        sync.follows()
        fill(
            source,
            [
                ("HSET", "a:h", "f", "2"),
                ("HSET", "b:h", "f", "2"),
                ("SET", "a:1", "2"),
                ("DEL", "a:i"),
                ("SET", "a:i", "now a string"),
            ],
        )
        wait_until(lambda: ask(target, "HGET", "a:h", "f") == b"2", "the change arrives")
        wait_until(lambda: keys_of(target) == 1, "a:i is no hash any more")


def test_stream_groups_arrive(server: Server, flushed: Callable[..., Server], tmp_path: Path) -> None:
    """Most of these no feed names (FACTS 3.1)."""
    target = flushed(server.binary.name, 1)
    fill(source := server, [("XADD", "s", f"{i}-0", "f", "v") for i in range(1, 30)])
    fill(source, [("XADD", "other", "1-0", "f", "v")])
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        for command in (
            ("XGROUP", "CREATE", "s", "g", "0"),
            ("XREADGROUP", "GROUP", "g", "c", "COUNT", "10", "STREAMS", "s", ">"),
            ("XACK", "s", "g", "1-0", "2-0"),
            ("XCLAIM", "s", "g", "d", "0", "3-0", "RETRYCOUNT", "7"),
            ("XGROUP", "SETID", "s", "g", "20-0"),
            ("XGROUP", "CREATECONSUMER", "s", "g", "idle"),
            ("XGROUP", "DELCONSUMER", "s", "g", "d"),
            ("XSETID", "s", "100-0"),
            ("XGROUP", "CREATE", "other", "h", "$"),
            ("XGROUP", "DESTROY", "s", "g"),
        ):
            ask(source, *command)
            becomes_equal(source, target)


def test_functions_follow(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    library = "#!lua name=%s\nredis.register_function('%s', function() return 1 end)"
    fill(source, [("FUNCTION", "LOAD", library % ("one", "f1"))])
    try:
        with syncing(source, target, tmp_path, functions=True) as sync:
            sync.follows()
            wait_until(lambda: b"one" in repr(ask(target, "FUNCTION", "LIST")).encode(), "the first library")
            fill(source, [("FUNCTION", "LOAD", library % ("two", "f2"))])
            wait_until(lambda: b"two" in repr(ask(target, "FUNCTION", "LIST")).encode(), "the second library")
    finally:
        for server in (source, target):
            ask(server, "FUNCTION", "FLUSH")


def test_a_renewed_expiry_outlives_the_older_one(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill(source, [("SET", f"k{i}", "v", "PX", 1500) for i in range(200)])
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        for _ in range(4):
            time.sleep(0.7)
            fill(source, [("PEXPIRE", f"k{i}", 1500) for i in range(200)])
        becomes_equal(source, target, within_s=1.4)
        assert keys_of(target) == 200


def test_every_pair_of_deployments(deployment_pair: tuple[Deployment, Deployment], tmp_path: Path) -> None:
    source, target = deployment_pair
    fill_strings(source, 500)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        fill(source, [("SET", "key:1", "x"), ("DEL", "key:2"), ("SADD", "s", "1"), ("SET", "{a}b", "1")])
        becomes_equal(source, target)
        ports = {int(look.shard.rpartition(":")[2]) for look in sync.last.shard_looks}
        assert ports == {node.port for node in source.primaries}
        assert sum(look.keys_total or 0 for look in sync.last.shard_looks) == 500


@pytest.mark.parametrize("feed", ["tracking", "notifications", "sweeps"])
def test_every_feed(
    feed: str, start_server: Callable[..., Server], flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = start_server("redis-7.0"), flushed("valkey-9.1")
    _prepare(source)
    from keyferry.capture.kinds import FeedKind

    with syncing(source, target, tmp_path, feed=FeedKind(feed), enable_notifications=True) as sync:
        sync.follows()
        fill(source, CHANGES)
        time.sleep(0.5)
        becomes_equal(source, target, within_s=10)
        fill(source, [("FLUSHDB",), ("SET", "after", "1")])
        becomes_equal(source, target, within_s=10)
    if feed == "notifications":
        reply = ask(source, "CONFIG", "GET", "notify-keyspace-events")
        assert isinstance(reply, list) and reply[1] == b"", "what was set is put back"
