"""Valkey 9 moves whole ranges of slots in one step, by replication: no MIGRATING, no IMPORTING, no ASK."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from copying import Beside, Copying, assert_consistent, assert_equal, fill_strings, wait_until
from keyferry.testing.cluster import Cluster
from keyferry.wire.resp import Reply


def first_slots(cluster: Cluster, index: int, count: int) -> tuple[int, int]:
    """The first unbroken slots of a primary, ``count`` at most."""
    slots = cluster.slots_of(index)
    first = last = min(slots)
    while last + 1 in slots and last - first + 1 < count:
        last += 1
    return first, last


def state_of_newest(migrations: Reply) -> Reply:
    match migrations:
        case [[*fields], *_]:
            return fields[fields.index(b"state") + 1]
    return None


def move(cluster: Cluster, index: int) -> None:
    """Gives slots to the next primary, and waits until they are there."""
    following = (index + 1) % len(cluster.primaries)
    slots = first_slots(cluster, index, 200)
    with cluster.primaries[index].session() as session:
        assert (
            session.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *slots, "NODE", cluster.node_id(following))
            == b"OK"
        )
        wait_until(
            lambda: state_of_newest(session.call("CLUSTER", "GETSLOTMIGRATIONS")) == b"success",
            "the slots' arrival",
        )


def test_ranges_move_on_both_sides(start_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    source, target = start_cluster("valkey-9.1"), start_cluster("valkey-9.1")
    fill_strings(source, 9_000)
    copying = Copying(tmp_path / "state")
    progressed, ended = threading.Event(), threading.Event()
    copying.on_progress = lambda progress: progressed.set() if progress.keys_done > 100 else None
    moved = 0

    def reshard() -> None:
        nonlocal moved
        assert progressed.wait(20)
        for index in (0, 1, 2, 0, 1, 2):
            if not ended.is_set():
                for cluster in (source, target):
                    move(cluster, index)
                moved += 1

    with Beside(reshard):
        report = copying.run(source, target, max_rate=3_000)
        ended.set()
    assert moved >= 2
    assert_consistent(report)
    assert report.total.failed == 0
    for cluster in (source, target):
        cluster.wait_until_agreed()
    assert_equal(source, target)
    assert any("moved meanwhile" in sentence for sentence in copying.told)
