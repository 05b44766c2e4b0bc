"""Slots on the move on both sides at once, between all makes; the tool killed and its connections cut meanwhile."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clustering import (
    Moments,
    assert_same,
    fill_slots,
    fill_types,
    finish_slots,
    half_move,
    move_slots,
    some_slots,
)

from copying import Beside, Copying, Process, assert_consistent, keys_of, wait_until
from keyferry.model.errors import ExitCode, InterruptedRun
from keyferry.testing.announcing import behind_proxies
from keyferry.testing.cluster import Cluster
from keyferry.testing.deployment import Deployment

Clusters = Callable[..., Cluster]

SLOTS = [*some_slots(0, 12), *some_slots(2, 4)]
COUNTERS = ("entries-added", "entries-read", "max-deleted-id")


def fill_source(source: Deployment) -> int:
    fill_types(source, SLOTS[:6])
    fill_slots(source, SLOTS, 25)
    return keys_of(source)


def ignored(*sides: Deployment) -> tuple[str, ...]:
    return COUNTERS if any(side.binary.version < (7, 0, 0) for side in sides) else ()


def test_both_sides_move(deployment_pair: tuple[Deployment, Deployment], tmp_path: Path) -> None:
    source, target = deployment_pair
    count = fill_source(source)
    clusters = [side for side in (source, target) if isinstance(side, Cluster)]

    def begin() -> None:
        for at, cluster in enumerate(clusters):
            move_slots(cluster, SLOTS[at * 2 : at * 2 + 3], 1)
            half_move(cluster, SLOTS[6 + at : 8 + at], 1)

    def finish() -> None:
        for at, cluster in enumerate(clusters):
            finish_slots(cluster, SLOTS[6 + at : 8 + at])
            move_slots(cluster, SLOTS[9:11], 1)

    moments = Moments().at(100, begin).when(lambda progress: progress.elapsed_s > 1, finish)
    report = Copying(tmp_path / "state", on_progress=moments).run(source, target, max_rate=300, batch=50)
    assert moments.over
    assert_consistent(report)
    assert report.run.failed == 0
    assert assert_same(source, target, ignored(source, target)).keys_target == count


def test_killed_at_random_moments(cluster: Clusters, tmp_path: Path) -> None:
    """While slots move on both sides, and between the runs. The checkpoint holds a cursor for each shard."""
    source, target = cluster("redis-7.0"), cluster("valkey-9.1", 2)
    count = fill_source(source)
    count += len(fill_slots(source, some_slots(1, 10), 40))
    chance = random.Random(3)
    kinds = [signal.SIGKILL, signal.SIGINT, signal.SIGKILL]
    for at, kind in enumerate(kinds):
        before = keys_of(target)
        with Process(source.url, target.url, tmp_path, "--max-rate", "900", "--batch", "20") as running:
            wait_until(lambda: keys_of(target) > before, "new keys")  # noqa: B023
            with Beside(lambda: move_slots(source, SLOTS[at::6], 1 + at % 2)):  # noqa: B023
                time.sleep(chance.random() * 0.4)
                running.process.send_signal(kind)
            status, _, err = running.end()
            assert status == (-kind if kind is signal.SIGKILL else ExitCode.INTERRUPTED), err
        move_slots(target, SLOTS[at::6], 1)
    with Process(source.url, target.url, tmp_path) as running:
        status, report, err = running.end()
    assert status == 0, err
    assert report["resumed"]
    # Unfinished shards went on where they were; a shard that imports slots is gone over once more.
    assert report["total_scanned"] == report["total_copied"] < 4 * count
    assert assert_same(source, target, ignored(source, target)).keys_target == count


def test_a_resumed_run_scans_no_more_than_is_left(cluster: Clusters, tmp_path: Path) -> None:
    """Each shard has its own cursor."""
    source, target = cluster("valkey-9.1"), cluster("redis-8.2")
    fill_slots(source, [*some_slots(0, 5), *some_slots(1, 5), *some_slots(2, 5)], 200)
    count = keys_of(source)
    for keys in (900, 1_800):
        copying = Copying(tmp_path / "state")
        copying.on_progress = Moments().at(keys, copying.stop.request)
        with pytest.raises(InterruptedRun):
            copying.run(source, target, max_rate=2_000, batch=20)
    report = Copying(tmp_path / "state").run(source, target)
    assert report.resumed
    assert_consistent(report)
    assert report.run.scanned <= count - 1_800
    # What was under way at the ends was not counted then.
    assert report.total.scanned == count
    assert assert_same(source, target).keys_target == count


@pytest.mark.parametrize("pair", ["redis-7.0 redis-7.0", "valkey-9.1 redis-6.2"])
def test_connections_are_cut_everywhere(pair: str, cluster: Clusters, tmp_path: Path) -> None:
    name, other = pair.split()
    source, target = cluster(name), cluster(other, 2)
    count = fill_source(source)
    chance = random.Random(5)
    with behind_proxies(source) as sources, behind_proxies(target) as targets:
        proxies = [*sources, *targets]
        copying = Copying(tmp_path / "state")

        def disturb() -> None:
            wait_until(lambda: keys_of(target) > 20, "the first keys")
            for _ in range(8):
                time.sleep(0.15)
                proxy = chance.choice(proxies)
                if chance.random() < 0.6:
                    proxy.cut()
                else:
                    proxy.cut_after(chance.randrange(1, 4_000), chance.choice(["to_client", "to_server"]))

        places = (
            end.endpoint.at("127.0.0.1", proxy.port)
            for end, proxy in ((source, sources[0]), (target, targets[0]))
        )
        with Beside(disturb):
            report = copying.run(*places, max_rate=300, batch=50)
    assert any("Trying again" in sentence for sentence in copying.told)
    assert_consistent(report)
    assert report.total.failed == 0
    assert assert_same(source, target, ignored(source, target)).keys_target == count


def test_a_shard_that_stalls_holds_up_no_other(cluster: Clusters, tmp_path: Path) -> None:
    source, target = cluster("redis-7.0"), cluster("redis-7.0", 2)
    per_shard = [fill_slots(source, some_slots(at, 5), 100) for at in range(3)]
    with behind_proxies(source) as proxies:
        seen: list[int] = []

        def go_on() -> None:
            seen.append(keys_of(target))
            proxies[0].stall(False)

        moments = Moments().at(100, lambda: proxies[0].stall(True))
        moments.when(
            lambda progress: progress.elapsed_s > 2,
            go_on,
        )
        endpoint = source.endpoint.at("127.0.0.1", proxies[1].port)
        report = Copying(tmp_path / "state", on_progress=moments).run(
            endpoint, target, max_rate=1_500, batch=20
        )
    assert moments.over
    assert seen[0] >= len(per_shard[1]) + len(per_shard[2])
    assert seen[0] < sum(map(len, per_shard))
    assert_consistent(report)
    assert_same(source, target)
