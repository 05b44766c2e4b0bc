"""What breaks while a sync runs: feeds, servers, the tool itself. Nothing is lost, nothing comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from copying import ask, fill, fill_strings, keys_of, wait_until
from following import becomes_equal, syncing
from keyferry.model.errors import RefusedError, ServerAway
from keyferry.model.keynames import MARKS
from keyferry.model.selection import Selection
from keyferry.telemetry.following import SyncReport
from keyferry.testing.cluster import Cluster
from keyferry.testing.proxy import HOST, FaultProxy
from keyferry.testing.servers import Server

BIG = {"big_key_bytes": 100_000, "big_key_members": 2000}


def _feed_ids(server: Server) -> list[bytes]:
    listed = ask(server, "CLIENT", "LIST", "TYPE", "pubsub")
    assert isinstance(listed, bytes)
    return [line.split(b" ")[0].removeprefix(b"id=") for line in listed.splitlines()]


def test_a_feed_that_is_cut_begins_a_new_generation(
    server_pair: tuple[Server, Server], tmp_path: Path
) -> None:
    """Whatever happens between two feeds is found by comparing."""
    source, target = server_pair
    fill_strings(source, 1000)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        ids = _feed_ids(source)
        assert ids
        with source.session() as session:
            # In one go: nothing of it can be heard by a feed.
            kills = [("CLIENT", "KILL", "ID", number) for number in ids]
            session.pipeline([*kills, ("SET", "key:1", "unheard"), ("DEL", "key:2"), ("SET", "new", "1")])
        sync.was_told("generation 2")
        becomes_equal(source, target)
        wait_until(lambda: sync.last.generation == 2 and sync.last.stage == "following", "it follows again")


def test_flushes_and_swaps(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = server_pair
    for database in (0, 1):
        fill_strings(source, 300, db=database, prefix=b"db%d:" % database)
    selection = Selection(databases=(0, 1))
    pairs = {0: 0, 1: 1}
    with syncing(source, target, tmp_path, selection=selection) as sync:
        sync.follows()
        fill(source, [("FLUSHDB",), ("SET", "a", "1")], db=1)
        becomes_equal(source, target, databases=pairs)
        fill(source, [("SWAPDB", 0, 1)])
        becomes_equal(source, target, databases=pairs)
        fill(source, [("FLUSHALL",)])
        becomes_equal(source, target, databases=pairs)
    assert keys_of(target) == 0


def test_a_source_that_comes_back_empty_does_not_empty_the_target(
    start_server: Callable[..., Server], flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = start_server("redis-7.0", save=""), flushed("valkey-9.1")
    fill_strings(source, 500)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        source.kill()
        source.start()
        assert isinstance(found := sync.wait(), RefusedError), found
        assert "500 keys less" in found.message and "--accept-shrunk-source" in found.hint
        sync.report, sync.error = SyncReport(copied=None), None  # type: ignore[arg-type]
    assert keys_of(target) == 500
    with syncing(source, target, tmp_path) as sync:
        assert isinstance(sync.wait(), RefusedError), "asked again: the answer is the same"
        sync.report, sync.error = SyncReport(copied=None), None  # type: ignore[arg-type]
    assert keys_of(target) == 500
    with syncing(source, target, tmp_path, accept_shrunk_source=True) as sync:
        wait_until(lambda: keys_of(target) == 0, "its keys go when that is meant")


def test_a_source_that_is_started_anew_with_its_data(
    start_server: Callable[..., Server], flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = start_server("redis-7.0", appendonly="yes", appendfsync="always"), flushed("redis-6.2")
    fill_strings(source, 500)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        source.kill()
        source.start()
        fill(source, [("SET", "key:1", "x"), ("DEL", "key:2")])
        becomes_equal(source, target, within_s=15)


def test_a_target_that_is_started_anew_without_its_data(
    flushed: Callable[..., Server], start_server: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), start_server("valkey-9.1", save="")
    fill_strings(source, 500)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        target.kill()
        fill(source, [("SET", "key:1", "while it was away"), ("DEL", "key:2")])
        time.sleep(0.5)
        target.start()
        becomes_equal(source, target, within_s=15)
        sync.was_told("target is another process")


def test_writes_of_others_to_the_target_are_told_and_put_back(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 500)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        time.sleep(0.5)
        fill(target, [("SET", "key:1", "theirs"), ("DEL", "key:2"), ("SET", "extra", "1")])
        sync.was_told(f"Somebody else has written to the target: {MARKS.name(b'key:1')} ")
        becomes_equal(source, target)
        wait_until(lambda: sync.last.foreign_keys == 3, "all three are counted")
        fill(target, [("FLUSHALL",)])
        becomes_equal(source, target)


def test_what_we_write_is_not_taken_for_the_work_of_others(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 500)
    fill(source, [("HSET", "big", *(part for i in range(6_000) for part in (f"f{i}", "v" * 30)))])
    with syncing(source, target, tmp_path, **BIG) as sync:
        sync.follows()
        for turn in range(30):
            fill(
                source,
                [
                    ("SET", f"key:{turn % 5}", turn),
                    ("SET", f"t{turn}", 1, "PX", 50),
                    ("HSET", "big", "f1", turn),
                ],
            )
            time.sleep(0.1)
        becomes_equal(source, target, within_s=15)
        time.sleep(1.0)
        assert sync.last.foreign_keys == 0, sync.told


def test_more_dirty_keys_than_are_remembered(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 20_000)
    with syncing(source, target, tmp_path, dirty_max=1000) as sync:
        sync.follows()
        fill(source, [("SET", f"key:{i}", "new") for i in range(0, 20_000, 2)])
        fill(source, [("DEL", f"key:{i}") for i in range(1, 20_000, 4)])
        sync.was_told("--dirty-max")
        becomes_equal(source, target, within_s=20)


def test_a_big_key_that_changes_is_settled_by_difference(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    many = 6_000
    fill(source, [("HSET", "big", *(part for i in range(many) for part in (f"f{i}", "v" * 20)))])
    fill(source, [("RPUSH", "list", *(f"item {i}" for i in range(many)))])
    fill(source, [("SADD", "set", *(f"member {i}" for i in range(many)))])
    fill(source, [("ZADD", "zset", *(part for i in range(many) for part in (i, f"m{i}")))])
    with syncing(source, target, tmp_path, **BIG) as sync:
        sync.follows()
        becomes_equal(source, target, within_s=30)
        with target.session() as session:
            session.call("CONFIG", "RESETSTAT")
        fill(
            source,
            [
                ("HSET", "big", "f7", "new"),
                ("HDEL", "big", "f8"),
                ("RPUSH", "list", "last"),
                ("LPOP", "list"),
                ("SADD", "set", "x"),
                ("ZADD", "zset", 5, "m1"),
            ],
        )
        becomes_equal(source, target, within_s=40)
        stats = ask(target, "INFO", "commandstats")
        assert isinstance(stats, bytes)
        assert b"cmdstat_rename" not in stats, "nothing was carried whole"
        fill(source, [("DEL", "set"), ("SET", "set", "small now"), ("EXPIRE", "big", 5000)])
        becomes_equal(source, target, within_s=15)


def test_a_tool_that_is_killed_goes_on(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 30_000)
    command = [sys.executable, "-m", "keyferry", "sync", source.url, target.url, "--max-latency", "0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")}
    for again in range(4):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        wait_until(lambda: keys_of(target) > 0, "the sync has begun")
        time.sleep(0.3 * again)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        fill(source, [("DEL", f"key:{again}"), ("SET", f"key:{again + 10}", f"new {again}")])
    done = subprocess.run(
        [*command, "--until-synced", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["synced"] and report["resumed"]
    becomes_equal(source, target)


def test_what_an_old_connection_holds_does_not_arrive(
    start_server: Callable[..., Server], flushed: Callable[..., Server], tmp_path: Path
) -> None:
    """The target stands still with our writes in its sockets, and another run begins before it goes on."""
    source, target = flushed("redis-7.0"), start_server("redis-7.0")
    fill_strings(source, 100)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        target.pause()
        fill(source, [("SET", "key:1", "old")])
        time.sleep(0.5)
    fill(source, [("SET", "key:1", "newest")])
    with syncing(source, target, tmp_path) as sync:
        time.sleep(0.3)
        target.resume()
        sync.follows()
        becomes_equal(source, target)
        time.sleep(0.5)
        assert ask(target, "GET", "key:1") == b"newest"


def test_cuts_in_the_middle_of_replies(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 5000)
    with FaultProxy(HOST, source.port) as before, FaultProxy(HOST, target.port) as behind:
        from keyferry.model.address import parse_endpoint

        with syncing(parse_endpoint(before.url), parse_endpoint(behind.url), tmp_path) as sync:
            sync.follows()
            for turn in range(6):
                before.cut_after(200 + 97 * turn, "to_client")
                behind.cut_after(300 + 131 * turn, "to_server")
                fill(source, [("SET", f"key:{i}", f"turn {turn}") for i in range(turn, 5000, 7)])
                fill(source, [("DEL", f"key:{1000 + turn}")])
                time.sleep(0.3)
            becomes_equal(source, target, within_s=20)


def test_slots_of_the_source_that_move(
    start_cluster: Callable[..., Cluster], flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = start_cluster("redis-7.0", 3), flushed("valkey-9.1")
    fill_strings(source, 3000)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        becomes_equal(source, target)
        for slot in (1, 2, 3, 4000):
            source.move_slot(slot, 2)
        fill(source, [("SET", f"key:{i}", "new") for i in range(0, 3000, 3)])
        fill(source, [("DEL", f"key:{i}") for i in range(1, 3000, 30)])
        becomes_equal(source, target, within_s=20)
        sync.was_told("moved")


def test_a_run_that_goes_on_waits_for_a_target_that_is_away(
    flushed: Callable[..., Server], start_server: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), start_server("redis-7.0", appendonly="yes", appendfsync="always")
    fill_strings(source, 300)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
    target.kill()
    fill(source, [("SET", "key:1", "while both were away")])
    with syncing(source, target, tmp_path) as sync:
        sync.was_told("Trying again")
        target.start()
        becomes_equal(source, target, within_s=15)


def test_a_run_that_goes_on_without_its_target_ends_in_time(
    flushed: Callable[..., Server], start_server: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), start_server("redis-7.0")
    fill_strings(source, 300)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
    target.kill()
    with syncing(source, target, tmp_path, retry_s=0.5) as sync:
        assert isinstance(sync.wait(), ServerAway)
        sync.report, sync.error = SyncReport(copied=None), None  # type: ignore[arg-type]
