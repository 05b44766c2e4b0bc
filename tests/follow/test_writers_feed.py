"""What writers report makes the target equal: alone, beside other feeds, and whatever becomes of the writers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from legs import Operation, Writer

from copying import ask, fill, fill_strings, wait_until
from following import Sync, becomes_equal, settings_of, syncing
from keyferry.capture.kinds import FeedKind
from keyferry.capture.ledger_format import Mode, ledger_keys, member
from keyferry.model.errors import ServerError
from keyferry.telemetry.following import SyncReport
from keyferry.testing.cluster import Cluster
from keyferry.testing.deployment import Deployment
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument

KEYS = ledger_keys("orders")
MakeWriter = Callable[..., Writer]


@pytest.fixture
def writer() -> Iterator[MakeWriter]:
    """``writer(source, target, ahead=True, ...)``: one that is closed after the test."""
    with ExitStack() as stack:

        def make(source: Deployment, target: Deployment, **given: object) -> Writer:
            made = Writer(source, target, **given)  # type: ignore[arg-type]
            stack.callback(made.close)
            return made

        yield make


def following_writers(source: Deployment, target: Deployment, tmp_path: Path, **given: object):  # type: ignore[no-untyped-def]
    return syncing(source, target, tmp_path, name="orders", feed=FeedKind.WRITERS, **given)


def told_foreign(sync: Sync) -> list[str]:
    return [told for told in sync.told if "Somebody else" in told]


def random_command(rng: random.Random) -> tuple[Argument, ...]:
    key = f"key:{rng.randrange(30)}"
    return rng.choice(
        [
            ("SET", key, rng.random().hex()),
            ("DEL", key),
            ("EXPIRE", key, 5000),
            ("INCR", f"counter:{rng.randrange(5)}"),
            ("SADD", f"set:{rng.randrange(5)}", str(rng.randrange(100))),
            ("HSET", f"hash:{rng.randrange(5)}", str(rng.randrange(20)), rng.random().hex()),
        ]
    )


def test_reports_ahead_are_all_that_is_needed(
    server_pair: tuple[Server, Server], tmp_path: Path, writer: MakeWriter
) -> None:
    """Legs of three writers in a random order, some second legs never sent, one writer dead in the middle."""
    source, target = server_pair
    fill_strings(source, 500)
    writers = [writer(source, target) for _ in range(3)]
    for one in writers:
        one.announce()
        one.register(lease_ms=2000)
    rng = random.Random(7)
    with following_writers(source, target, tmp_path) as sync:
        sync.follows()
        under_way: list[tuple[Operation, list[str]]] = []
        for number in range(900):
            if len(under_way) < 6:
                one = rng.choice(writers)
                fails = rng.random() < 0.1
                steps = ["done"] if fails else ["second", "done"]
                operation = one.write(*random_command(rng))
                operation.first_leg()
                under_way.append((operation, steps))
            operation, steps = rng.choice(under_way)
            if steps.pop(0) == "second":
                operation.second_leg()
            else:
                operation.done()
                under_way.remove((operation, steps))
            if number % 30 == 0:
                time.sleep(0.02)
                for one in writers:
                    one.register(lease_ms=2000)
        # The first writer dies as it stands; the others end what they have begun.
        for operation, steps in under_way:
            if operation.writer is not writers[0]:
                if "second" in steps:
                    operation.second_leg()
                operation.done()
        wait_until(lambda: not ask(source, "EXISTS", KEYS.open, KEYS.dirty), "the ledger is empty")
        becomes_equal(source, target)
        assert not told_foreign(sync)
        assert sync.last.generation == 1


def test_a_dead_writers_second_leg_comes_before_its_keys_are_settled_or_never(
    flushed: Callable[..., Server], tmp_path: Path, writer: MakeWriter
) -> None:
    """Its connection is ended before its keys are read."""
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    one = writer(source, target)
    one.announce()
    one.register(lease_ms=500)
    with following_writers(source, target, tmp_path) as sync:
        sync.follows()
        one.write("SET", "a", "1").first_leg()
        sync.was_told("is gone")
        becomes_equal(source, target)
        with pytest.raises(Exception, match="is lost"):
            one.target.call("SET", "a", "late")
        becomes_equal(source, target)


def test_a_living_writers_entry_is_left_alone(
    flushed: Callable[..., Server], tmp_path: Path, writer: MakeWriter
) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    one = writer(source, target)
    one.announce()
    with following_writers(source, target, tmp_path) as sync:
        sync.follows()
        operation = one.write("SET", "a", "1")
        one.register(lease_ms=600)
        operation.first_leg()
        for _ in range(10):
            one.register(lease_ms=600)
            time.sleep(0.2)
        assert ask(source, "HLEN", KEYS.open) == 1
        assert ask(target, "EXISTS", "a") == 0
        operation.second_leg()
        operation.done()
        becomes_equal(source, target)


@pytest.mark.parametrize(
    "feed", [FeedKind.WRITERS, FeedKind.TRACKING, FeedKind.NOTIFICATIONS, FeedKind.SWEEPS]
)
def test_beside_every_feed_reported_keys_are_settled(
    flushed: Callable[..., Server], tmp_path: Path, feed: FeedKind
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 300)
    ask(source, "SADD", KEYS.modes, Mode.AHEAD)
    given = {"enable_notifications": feed is FeedKind.NOTIFICATIONS}
    with syncing(source, target, tmp_path, name="orders", feed=feed, **given) as sync:
        sync.follows()
        ask(target, "SET", "key:1", "differs")
        ask(target, "DEL", "key:2")
        ask(target, "SET", "never there", "1")
        ask(source, "SADD", KEYS.dirty, *(member(0, key) for key in (b"key:1", b"key:2", b"never there")))
        becomes_equal(source, target)
        assert not told_foreign(sync)


def test_the_targets_ledger_is_read_too(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 100)
    with following_writers(source, target, tmp_path) as sync:
        sync.follows()
        ask(target, "DEL", "key:1")
        ask(target, "SADD", KEYS.dirty, member(0, b"key:1"))
        becomes_equal(source, target)


def test_every_database_has_a_ledger(flushed: Callable[..., Server], tmp_path: Path) -> None:
    from keyferry.model.selection import Selection

    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    for database in (0, 3):
        fill(source, [("SET", "a", "1"), ("SET", "b", "1")], db=database)
    selection = Selection(databases=(0, 3), database_map={3: 5})
    with following_writers(source, target, tmp_path, selection=selection) as sync:
        sync.follows()
        ask(target, "DEL", "a", "b", db=5)
        ask(source, "SADD", KEYS.dirty, member(3, b"a"), db=3)
        ask(target, "SADD", KEYS.dirty, member(3, b"b"), db=5)
        becomes_equal(source, target, databases={0: 0, 3: 5})


def test_a_full_ledger_means_everything(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 500)
    with following_writers(source, target, tmp_path) as sync:
        sync.follows()
        fill(target, [("DEL", f"key:{number}") for number in range(0, 500, 3)])
        ask(source, "SET", KEYS.full, 1)
        becomes_equal(source, target)
        sync.follows()
        wait_until(lambda: sync.last.generation == 2, "the next generation is shown")
        assert not ask(source, "EXISTS", KEYS.full)


def test_names_that_were_on_their_way_when_the_connection_broke_are_not_lost(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 3000)
    with (
        FaultProxy("127.0.0.1", source.port) as proxy,
        following_writers(_through(source, proxy), target, tmp_path) as sync,
    ):
        sync.follows()
        fill(target, [("DEL", f"key:{number}") for number in range(3000)])
        proxy.delay(0.4)
        fill(source, [("SADD", KEYS.dirty, *(member(0, b"key:%d" % number) for number in range(3000)))])
        wait_until(lambda: not ask(source, "EXISTS", KEYS.dirty), "the names are taken off")
        proxy.cut()
        proxy.delay(0)
        sync.was_told("The connection on which the ledger is read was cut")
        becomes_equal(source, target, within_s=15)


def test_keys_that_were_taken_off_the_ledger_survive_the_end_of_a_run(
    flushed: Callable[..., Server], start_server: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), start_server("redis-7.0")
    fill_strings(source, 200)
    with following_writers(source, target, tmp_path) as sync:
        sync.follows()
        fill(target, [("DEL", f"key:{number}") for number in range(200)])
        target.pause()
        ask(source, "SADD", KEYS.dirty, *(member(0, b"key:%d" % number) for number in range(200)))
        wait_until(lambda: not ask(source, "EXISTS", KEYS.dirty), "the ledger is taken")
        sync.stop.request()
        assert sync.thread is not None
        sync.thread.join(20)
        target.resume()
    with following_writers(source, target, tmp_path) as sync:
        becomes_equal(source, target)


def test_clusters(
    cluster: Callable[..., Cluster], flushed: Callable[..., Server], tmp_path: Path, writer: MakeWriter
) -> None:
    source, target = cluster("valkey-9.1"), cluster("redis-7.0", 3, 1)
    fill_strings(source, 300)
    one, other = writer(source, target), writer(source, target)
    one.announce()
    with following_writers(source, target, tmp_path) as sync:
        sync.follows()
        for number in range(20):
            first, second = (its.write("SET", f"key:{number}", its.name) for its in (one, other))
            first.first_leg()
            second.first_leg()
            second.second_leg()
            first.second_leg()
            first.done()
            second.done()
        becomes_equal(source, target)
        slot_owner = [node for node in source.primaries if _holds(node)]
        assert slot_owner


def test_what_is_reserved_stays(flushed: Callable[..., Server], tmp_path: Path, writer: MakeWriter) -> None:
    """Neither the ledger nor the record is copied, nor can a ledger make anything of them dirty."""
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    one = writer(source, target)
    one.announce()
    one.register(lease_ms=60_000)
    one.write("SET", "a", "1").run()
    one.write("SET", "b", "1").first_leg()
    ask(source, "SET", KEYS.full, 1)
    with syncing(source, target, tmp_path, name="orders", on_conflict="replace") as sync:
        sync.follows()
        ask(source, "SADD", KEYS.dirty, member(0, KEYS.modes), member(0, b"a"))
        wait_until(lambda: not ask(source, "EXISTS", KEYS.dirty), "the ledger is read")
        sync.follows()
        becomes_equal(source, target)
        keys = ask(target, "KEYS", "keyferry:*")
        assert keys == []
        assert sorted(ask(source, "KEYS", "keyferry:*")) == sorted(  # type: ignore[arg-type, type-var]
            [KEYS.modes, KEYS.open, b"keyferry:{orders}:writers"]
        )


def test_a_ledger_that_may_not_be_read_ends_a_sync_that_has_nothing_else(
    start_server: Callable[..., Server], flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = start_server("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 10)
    ask(source, "ACL", "SETUSER", "default", "-exists")
    sync = Sync(settings_of(source, target, tmp_path, name="orders", feed=FeedKind.WRITERS))
    sync.start()
    error = sync.wait()
    assert isinstance(error, ServerError)
    assert "does not let us read what writers report" in error.message
    assert "+spop" in error.hint


def test_it_says_what_its_writers_are_worth(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    with following_writers(source, target, tmp_path) as sync:
        sync.was_told("No writer has announced itself")
        ask(source, "SADD", KEYS.modes, Mode.FAILURES)
        sync.was_told("do not report ahead")
    assert any("it misses nothing as long as every write goes through" in told for told in sync.told)


def test_evicted_keys_of_the_source_are_found(
    start_server: Callable[..., Server], flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = start_server("redis-7.0"), flushed("redis-7.0", 1)
    fill(source, [("SET", f"key:{number}", "x" * 1000) for number in range(3000)])
    with following_writers(source, target, tmp_path) as sync:
        sync.follows()
        ask(source, "CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        used = int(str(ask(source, "INFO", "memory")).split("used_memory:")[1].split("\\r")[0])
        ask(source, "CONFIG", "SET", "maxmemory", used - 500_000)
        sync.was_told("has evicted keys")
        becomes_equal(source, target, within_s=20)


def _through(server: Server, proxy: FaultProxy):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(server.endpoint, host="127.0.0.1", port=proxy.port, unix_path="")


def _holds(node: Server) -> bool:
    with node.session() as session:
        return session.call("EXISTS", KEYS.modes) == 1


def test_writers_on_many_threads_beside_the_copy_and_both_feeds(
    server_pair: tuple[Server, Server], tmp_path: Path
) -> None:
    """Mirrored without any order between processes: only failures are reported, both feeds do the rest.

    They begin before the sync and go on through its copy and the look for extra keys, so that keys come and go on
    both servers while each of these goes by.
    """
    source, target = server_pair
    fill_strings(source, 3000)
    fill(target, [("SET", f"extra:{number}", "only here") for number in range(200)])
    ask(source, "SADD", KEYS.modes, Mode.FAILURES)
    ended = threading.Event()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        rng = random.Random(number)
        one = Writer(source, target, ahead=False)
        try:
            while not ended.is_set():
                operations = [one.write(*random_command(rng)) for _ in range(5)]
                for operation in operations:
                    operation.first_leg()
                rng.shuffle(operations)
                for operation in operations:
                    if rng.random() < 0.05:
                        ask(source, "SADD", KEYS.dirty, *(member(0, key) for key in operation.keys))
                    else:
                        operation.second_leg()
                time.sleep(0.001)
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            failures.append(error)
        finally:
            one.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        with syncing(source, target, tmp_path, name="orders", on_conflict="replace") as sync:
            sync.was_told("From now on the target is followed, too", 30)
            time.sleep(3)
            ended.set()
            for thread in threads:
                thread.join()
            becomes_equal(source, target, within_s=10)
            assert not told_foreign(sync)
            assert sync.last.foreign_keys == 0
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_mirroring_that_begins_while_a_sync_follows(
    flushed: Callable[..., Server], tmp_path: Path, writer: MakeWriter
) -> None:
    """Until then a write on the target is somebody else's; from then on it is looked at."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 500)
    with syncing(source, target, tmp_path, name="orders") as sync:
        sync.follows()
        time.sleep(0.5)  # the target's feed comes after the copy
        ask(target, "SET", "key:1", "by somebody")
        sync.was_told("Somebody else has written")
        becomes_equal(source, target)
        writer(source, target, ahead=False).announce()
        wait_until(lambda: sync.last.generation == 2, "everything is compared")
        sync.follows()
        before = sync.last.foreign_keys
        ask(target, "SET", "key:2", "by a second leg")
        becomes_equal(source, target)
        time.sleep(2.5)
        assert sync.last.foreign_keys == before


def test_a_gap_of_the_targets_feed_is_a_gap(
    flushed: Callable[..., Server], tmp_path: Path, writer: MakeWriter
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 500)
    writer(source, target, ahead=False).announce()
    with syncing(source, target, tmp_path, name="orders") as sync:
        wait_until(lambda: sync.last.generation == 2, "everything is compared")
        sync.follows()
        with target.session(side="target") as session:
            # Both in one packet: the feed ends, and what is written then is named to nobody.
            session.pipeline([("CLIENT", "KILL", "TYPE", "pubsub"), ("SET", "key:3", "unseen")])
        becomes_equal(source, target, within_s=15)
        wait_until(lambda: sync.last.generation == 3, "a new generation")


def test_until_synced_waits_for_what_writers_have_reported(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 500)
    ask(source, "SADD", KEYS.modes, Mode.AHEAD)
    ask(source, "SADD", KEYS.dirty, *(member(0, b"key:%d" % number) for number in range(0, 500, 5)))
    sync = Sync(
        settings_of(source, target, tmp_path, name="orders", feed=FeedKind.WRITERS, until_synced=True)
    )
    sync.start()
    report = sync.wait()
    assert isinstance(report, SyncReport), report
    assert report.synced
    assert report.feed == "writers"
    assert report.changes == 100
    assert not ask(source, "EXISTS", KEYS.dirty)
    becomes_equal(source, target)
