"""What a run says to other programs: the facts of real servers, and no name of a key unless names were asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from copying import fill, fill_strings, wait_until
from following import Sync, syncing
from keyferry.cutover.showing import status_of
from keyferry.follow.biggest import BIGGEST_MAX, Biggest, biggest_of
from keyferry.follow.showing import station_of_sync, sync_status_of
from keyferry.model.keynames import MARKS, NAMES, KeyNames
from keyferry.telemetry.following import BigKey, SyncProgress
from keyferry.telemetry.migrating import MigrationProgress
from keyferry.testing.servers import Server


def status(progress: SyncProgress, names: KeyNames = MARKS) -> dict[str, Any]:
    """As the socket brings it."""
    said = sync_status_of(
        progress,
        name="",
        source="old:6379",
        target="new:6379",
        pid=7,
        started_ms=1,
        limits={"max_rate": None, "max_latency_ms": 5.0},
        names=names,
        at=station_of_sync(progress, 0),
    )
    found: dict[str, Any] = json.loads(json.dumps(said))
    return found


def _all_is_shown(sync: Sync) -> bool:
    last = sync.last
    return last.stage == "following" and len(last.biggest) == 2 and bool(last.failures)


def test_the_biggest_keys_the_failed_ones_and_the_shard(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("valkey-9.1"), flushed("redis-7.0")
    fill_strings(source, 100)
    fill(source, [("HSET", "secret:h", "f", "v"), ("HPEXPIRE", "secret:h", 10_000_000, "FIELDS", 1, "f")])
    members = [str(number) for number in range(10_000)]
    fill(source, [("SET", "secret:string", "x" * 3_000_000), ("SADD", "secret:set", *members)])
    with syncing(source, target, tmp_path, big_key_bytes=100_000) as sync:
        wait_until(lambda: _all_is_shown(sync), "everything is shown")
        last = sync.last
        string, of_members = last.biggest
        assert (string.key, string.type, string.members) == (b"secret:string", "string", None)
        assert (of_members.key, of_members.type, of_members.members) == (b"secret:set", "set", 10_000)
        assert string.size_bytes > of_members.size_bytes > 40_000
        (failed,) = last.failures
        assert (failed.key, failed.database, last.failed) == (b"secret:h", 0, 1)
        (shard,) = last.shard_looks
        assert shard.shard.endswith(f":{source.port}") and shard.feed == "tracking"
        assert (shard.keys_total, shard.keys_done) == (103, None)

        said = status(last)
        assert "secret" not in json.dumps(said)
        assert [big["key"] for big in said["progress"]["biggest"]] == [
            MARKS.name(b"secret:string"),
            MARKS.name(b"secret:set"),
        ]
        assert said["failures"]["count"] == 1 and said["failures"]["last"][0]["key"].startswith("#")
        assert (said["kind"], said["station"], said["glance"]["health"]) == ("sync", "follow", "attention")
        assert status(last, NAMES)["failures"]["last"][0]["key"] == "secret:h"


def test_a_migration_and_a_sync_say_the_same_fields() -> None:
    """Whoever shows one can show the other."""
    sync = SyncProgress(
        stage="copying",
        feed="tracking",
        generation=1,
        keys_total=10,
        keys_done=5,
        keys_per_second=1.0,
        seconds_left=5.0,
        changes_per_second=0.0,
        dirty_keys=0,
        lag_s=0.0,
        settled_keys=0,
        settled_per_second=0.0,
        cutover_s=None,
        hottest=(),
        foreign_keys=0,
        failed=0,
        elapsed_s=1.0,
        source_latency_ms=None,
        target_latency_ms=None,
        throttle="off",
    )
    migration = status_of(
        MigrationProgress(sync, "copying", not_ready=("It is copying.",)),
        name="shop",
        source="old:6379",
        target="new:6379",
        pid=7,
        limits={},
        touched=0,
        writers={},
        switches=(),
        barred="",
        warnings=(),
        events=(),
    )
    said = status(sync)
    assert set(said) == set(migration)
    for part in ("progress", "failures", "glance"):
        assert set(said[part]) == set(migration[part])


def test_only_the_biggest_are_remembered() -> None:
    biggest = Biggest()
    for number in range(100):
        biggest.meet(BigKey(b"%d" % number, 0, number))
    assert {big.size_bytes for big in biggest} == set(range(100 - BIGGEST_MAX, 100))
    biggest.meet(BigKey(b"99", 0, 1))
    biggest.forget(b"98")
    assert [big.key for big in biggest_of([BigKey(b"97", 0, 5), *biggest])] == [b"97", b"96", b"95", b"99"]
