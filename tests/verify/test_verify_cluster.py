"""Clusters: every pair of ways, and slots that move while they are compared: no false alarm, nothing left out."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyferry.model.errors import RefusedError, ServerError
from keyferry.model.selection import Selection
from keyferry.telemetry.comparing import VerifyProgress
from keyferry.testing.cluster import Cluster
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server
from keyferry.testing.topology import even_ranges, hash_slot
from keyferry.wire.resp import Argument
from verifying import Beside, Verifying, ask, fill, forget_writes, reasons, told_keys, writes_seen

Clusters = Callable[..., Cluster]
Flushed = Callable[..., Server]
KEYS = 3000


def values(count: int = KEYS) -> list[tuple[Argument, ...]]:
    commands: list[tuple[Argument, ...]] = []
    for i in range(count):
        key = f"k{i}"
        commands.append((("SET", key, i), ("HSET", key, "f", i), ("RPUSH", key, i, "a"))[i % 3])
    return commands


def slots_of_first(count: int, shards: int = 3) -> list[int]:
    """Slots of the first node that hold keys of ours."""
    held = sorted({hash_slot(b"k%d" % i) for i in range(KEYS)} & set(even_ranges(shards)[0]))
    return held[:count]


def differ(target: Deployment) -> dict[bytes, str]:
    fill(
        target,
        [("SET", "k3", "other"), ("DEL", "k7"), ("DEL", "k8"), ("SET", "k8", "x"), ("SET", "extra", 1)],
    )
    return {
        b"k3": "stale",
        b"k7": "never copied",
        b"k8": "type clash",
        b"extra": "only on the target",
    }


def test_every_way(deployment_pair: tuple[Deployment, Deployment], tmp_path: Path) -> None:
    source, target = deployment_pair
    for side in deployment_pair:
        fill(side, values())
    verifying = Verifying(tmp_path)
    report = verifying.run(source, target)
    assert report.equal, report.first
    assert report.compared == report.looked_for == KEYS
    expected = differ(target)
    forget_writes(target)
    assert told_keys(verifying.run(source, target)) == expected
    assert writes_seen(target) == {}
    repaired = verifying.run(source, target, repair=True, delete_extra=True)
    assert (repaired.repaired, repaired.deleted, repaired.differences) == (3, 1, 0)
    assert verifying.run(source, target).equal


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("name", ["redis-7.0", "valkey-9.1"])
def test_slots_that_move_meanwhile(
    name: str, side: str, cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    """From a node that is still scanned to one whose scan is over, and half-moved slots."""
    moving = cluster(name)
    other = flushed("redis-8.2")
    source, target = (moving, other) if side == "source" else (other, moving)
    for one in (source, target):
        fill(one, values())
    expected = differ(target)
    slots = slots_of_first(60)
    steps: list[str] = []
    scanned_before = 0 if side == "source" else KEYS

    def move(progress: VerifyProgress) -> None:
        if progress.keys_done > scanned_before + 1000 and not steps:
            steps.append("moved")
            for slot in slots[:40]:
                moving.move_slot(slot, 1)
            for slot in slots[40:45]:
                moving.move_slot(slot, 2, keys_per_step=1, finish=False)
        elif progress.keys_done > scanned_before + 2000 and len(steps) == 1:
            steps.append("finished")
            for slot in slots[40:45]:
                moving.finish_slot(slot)

    verifying = Verifying(tmp_path, on_progress=move)
    report = verifying.run(source, target, copy={"max_rate": 3000, "batch": 20})
    assert len(steps) == 2
    assert any(f"of the {side} moved meanwhile" in sentence for sentence in verifying.told)
    assert told_keys(report) == expected
    assert report.differences == len(expected)


def test_slots_move_all_the_time_under_live_writes(cluster: Clusters, tmp_path: Path) -> None:
    source, target = cluster("redis-7.0"), cluster("valkey-9.1", 2)
    for one in (source, target):
        fill(one, values())
    expected = differ(target)
    chance = random.Random(3)
    slots = slots_of_first(12)
    until_s = time.monotonic() + 8

    def move() -> None:
        if time.monotonic() > until_s:
            time.sleep(0.05)
            return
        moving = chance.choice((source, target))
        moving.move_slot(chance.choice(slots), chance.randrange(2))
        key, value = f"k{chance.randrange(100, KEYS) // 3 * 3}", chance.randrange(10**9)
        for one in (source, target):
            ask(one, "SET", key, value)

    with Beside(move):
        report = Verifying(tmp_path).run(source, target, copy={"max_rate": 2000, "batch": 20})
    assert told_keys(report) == expected


def test_a_slot_that_stays_open_is_said(cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = cluster("redis-7.0"), flushed("valkey-9.1")
    for one in (source, target):
        fill(one, values())
    slot = slots_of_first(1)[0]
    source.move_slot(slot, 1, keys_per_step=1, finish=False)
    verifying = Verifying(tmp_path)
    with pytest.raises(ServerError, match=f"slots {slot} of the source are half moved"):
        verifying.run(source, target, copy={"retry_s": 1.0})
    source.finish_slot(slot)
    assert verifying.run(source, target).equal


def test_a_failover_of_the_source(start_cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = start_cluster("redis-7.0", 3, 1), flushed("valkey-9.1")
    for one in (source, target):
        fill(one, values())
    expected = differ(target)
    done: list[object] = []

    def fail_over(progress: VerifyProgress) -> None:
        if progress.keys_done > 500 and not done:
            done.append(source.fail_over(0))

    verifying = Verifying(tmp_path, on_progress=fail_over)
    report = verifying.run(source, target, copy={"max_rate": 2000, "batch": 20})
    assert done
    assert told_keys(report) == expected
    assert reasons(report)["stale"] == 1


def test_databases_do_not_go_into_a_cluster(cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), cluster("valkey-9.1", 2)
    fill(source, [("SET", "k", 1)], db=3)
    fill(target, [("SET", "k", 1)])
    with pytest.raises(RefusedError):
        Verifying(tmp_path).run(source, target, copy={"selection": Selection(databases=None)})
    mapped = Selection(databases=(3,), database_map={3: 0})
    assert Verifying(tmp_path).run(source, target, copy={"selection": mapped}).equal
