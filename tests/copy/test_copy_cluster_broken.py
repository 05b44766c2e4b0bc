"""Nodes that fail over, die, or come back with or without their keys, in the middle of a copy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from clustering import Moments, assert_same, fill_slots, some_slots

from copying import Copying, ask, assert_consistent, compared, keys_of
from keyferry.model.errors import ExitCode, ServerError
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server

Clusters = Callable[..., Cluster]
Flushed = Callable[..., Server]

SLOTS = [slot for shard in range(3) for slot in some_slots(shard, 5)]
EACH = 50
COUNT = EACH * len(SLOTS)
COUNT_OF_SHARD = COUNT // 3


def replicated(source: Cluster) -> None:
    """Every primary's keys have come to its replica."""
    for node in source.primaries:
        assert ask(node, "WAIT", 1, 5_000) == 1


@pytest.mark.parametrize("name", ["redis-7.0", "valkey-9.1"])
def test_a_shard_of_the_source_fails_over(
    name: str, start_cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    """In agreement: no connection breaks, the former primary only sends us elsewhere. Then once more, and back."""
    source, target = start_cluster(name, replicas=1), flushed("redis-8.2")
    fill_slots(source, SLOTS, EACH)
    replicated(source)
    moments = Moments().at(100, lambda: source.fail_over(0)).at(500, lambda: source.fail_over(3))
    report = Copying(tmp_path / "state", on_progress=moments).run(source, target, max_rate=800, batch=20)
    assert moments.over
    assert_consistent(report)
    assert report.run.failed == 0
    assert assert_same(source, target).keys_target == COUNT


@pytest.mark.parametrize("name", ["redis-7.0", "valkey-9.1"])
def test_a_shard_of_the_target_fails_over(
    name: str, start_cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0", 1), start_cluster(name, replicas=1)
    fill_slots(source, SLOTS, EACH)
    moments = Moments().at(100, lambda: target.fail_over(1))
    copying = Copying(tmp_path / "state", on_progress=moments)
    report = copying.run(source, target, max_rate=800, batch=20)
    assert moments.over
    assert any("by comparison" in sentence for sentence in copying.told)
    assert_consistent(report)
    assert assert_same(source, target).keys_target == COUNT


def test_keys_that_a_failover_of_the_target_loses(
    start_cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    """The replica had not got what its primary acknowledged; it takes over without asking, and nobody is cut off."""
    source, target = flushed("redis-7.0", 1), start_cluster("redis-7.0", replicas=1)
    fill_slots(source, SLOTS, EACH)

    def lose() -> None:
        assert keys_of(target.nodes[1])
        replica = target.nodes[4]
        with target.agreeing():
            ask(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
            target.wait_for_views(lambda view: target.node_id(4) in {n.node_id for n in view if n.is_primary})
        # As if nothing had come to it.
        ask(replica, "FLUSHALL")

    moments = Moments().at(300, lose)
    copying = Copying(tmp_path / "state", on_progress=moments)
    report = copying.run(source, target, max_rate=800, batch=20)
    assert moments.over
    assert_consistent(report)
    assert assert_same(source, target).keys_target == COUNT


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_primary_dies_and_its_replica_takes_over(
    side: str, start_cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    """The one that the user named, too: the others know where the rest is."""
    broken = start_cluster("redis-7.0", replicas=1, cluster_node_timeout="1000")
    other = flushed("valkey-9.1")
    source, target = (broken, other) if side == "source" else (other, broken)
    fill_slots(source, SLOTS, EACH)
    if side == "source":
        replicated(broken)
    moments = Moments().at(200, lambda: broken.kill(0))
    copying = Copying(tmp_path / "state", on_progress=moments)
    report = copying.run(source, target, max_rate=800, batch=20, retry_s=25.0)
    assert moments.over
    assert any("Trying again" in sentence for sentence in copying.told)
    assert_consistent(report)
    assert report.total.failed == 0
    assert assert_same(source, target).keys_target == COUNT


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_primary_without_replica_stays_away(
    side: str, start_cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    broken, other = start_cluster("redis-7.0"), flushed("valkey-9.1")
    source, target = (broken, other) if side == "source" else (other, broken)
    fill_slots(source, SLOTS, EACH)

    def die() -> None:
        ask(broken.nodes[1], "SAVE")
        broken.kill(1)

    copying = Copying(tmp_path / "state", on_progress=Moments().at(200, die))
    with pytest.raises(ServerError) as ended:
        copying.run(source, target, max_rate=800, batch=20, retry_s=1.0)
    assert ended.value.exit_code is ExitCode.SERVER
    assert "It has not come back for 1 s" in ended.value.message
    assert side in ended.value.message
    broken.restart(1, keep_data=True)
    copying.on_progress = lambda progress: None
    report = copying.run(source, target)
    assert report.resumed
    assert_consistent(report)
    if side == "source":
        # The others' cursors still count.
        assert report.run.scanned < COUNT
    assert assert_same(source, target).keys_target == COUNT


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("keeps", [True, False])
def test_a_shard_is_started_anew(
    side: str, keeps: bool, start_cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    broken, other = start_cluster("valkey-9.1"), flushed("redis-7.0")
    source, target = (broken, other) if side == "source" else (other, broken)
    fill_slots(source, SLOTS, EACH)
    restarted = threading.Event()

    def restart() -> None:
        broken.restart(1, keep_data=keeps)
        restarted.set()

    copying = Copying(tmp_path / "state", on_progress=Moments().at(300, restart))
    report = copying.run(source, target, max_rate=800, batch=20)
    words = "by comparison" if side == "target" else "was started anew"
    assert any(words in sentence for sentence in copying.told)
    assert restarted.is_set()
    assert_consistent(report)
    if keeps or side == "target":
        assert assert_same(source, target).keys_target == COUNT
        return
    # What the source lost is there still, as far as it had been copied; all that it has arrived.
    comparison = compared(source, target)
    assert comparison.keys_source == COUNT - COUNT_OF_SHARD
    assert {difference.aspect for difference in comparison.differences} <= {"extra"}
    assert comparison.differing_keys < COUNT_OF_SHARD
