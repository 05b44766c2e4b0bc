"""Slots of the source that move while it is copied: no key is missed, and none is left at a wrong place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from clustering import (
    Moments,
    Telling,
    assert_same,
    fill_slots,
    finish_slots,
    half_move,
    move_slots,
    some_slots,
    tag_of,
)

from copying import Beside, Copying, Process, ask, assert_consistent, fill, keys_of, wait_until
from keyferry.model.errors import ExitCode, ServerError
from keyferry.model.selection import Selection
from keyferry.testing.binaries import server_names
from keyferry.testing.cluster import Cluster
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server

Clusters = Callable[..., Cluster]
Flushed = Callable[..., Server]

FROM = some_slots(0, 16)
"""Slots of the first shard, with most keys: its scan ends last."""
ELSEWHERE = [*some_slots(1, 5), *some_slots(2, 5)]
KEYS = 40 * len(FROM) + 10 * len(ELSEWHERE)
every_name = pytest.mark.parametrize("name", server_names())


def fill_source(source: Deployment) -> None:
    fill_slots(source, FROM, 40)
    fill_slots(source, ELSEWHERE, 10)


@every_name
def test_keys_that_move_behind_a_scan_arrive(
    name: str, cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    """From a shard that is still scanned to one whose scan is over."""
    source, target = cluster(name), flushed("valkey-9.1")
    fill_source(source)
    moments = Moments().at(250, lambda: move_slots(source, FROM[::2], 1))
    copying = Copying(tmp_path / "state", on_progress=moments)
    report = copying.run(source, target, max_rate=800, batch=20)
    assert moments.over
    assert_consistent(report)
    assert any("moved meanwhile" in sentence for sentence in copying.told)
    assert assert_same(source, target).keys_target == KEYS


def test_slots_move_to_and_fro(cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    """Away before the scan comes to them, back when it has passed: each look shows the same owners."""
    source, target = cluster("redis-7.0"), flushed("valkey-9.1")
    fill_source(source)
    gone = FROM[::4]

    moments = (
        Moments()
        .at(200, lambda: move_slots(source, gone, 2))
        .at(KEYS - 200, lambda: move_slots(source, gone, 0))
    )
    report = Copying(tmp_path / "state", on_progress=moments).run(source, target, max_rate=800, batch=20)
    assert moments.over
    assert_consistent(report)
    assert assert_same(source, target).keys_target == KEYS


def test_slots_that_move_while_they_are_gone_over(
    cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    """Between the look that shows their owner and the pass over it."""
    source, target = cluster("redis-7.0"), flushed("valkey-9.1")
    fill_source(source)
    moments = Moments().at(250, lambda: move_slots(source, FROM[::4], 1))
    copying = Copying(tmp_path / "state", on_progress=moments)
    copying.told = Telling("moved meanwhile", lambda: move_slots(source, FROM[::4], 2))
    report = copying.run(source, target, max_rate=800, batch=20)
    assert moments.over
    assert copying.told.acted
    assert_consistent(report)
    assert assert_same(source, target).keys_target == KEYS


@pytest.mark.parametrize("policy", ["skip", "fail", "replace"])
def test_moved_keys_are_no_conflict(policy: str, cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    """What is gone over again was written by this copy; what the target had is treated as it was."""
    source, target = cluster("redis-7.0"), flushed("valkey-9.1")
    fill_source(source)
    foreign = fill_slots(source, FROM[:4], 2, prefix=b"foreign", expiring=False)
    fill(target, [("SET", key, "theirs") for key in foreign])
    moments = Moments().at(250, lambda: move_slots(source, FROM[::2], 1))
    copying = Copying(tmp_path / "state", on_progress=moments)
    report = copying.run(source, target, max_rate=800, batch=20, on_conflict=policy)
    assert moments.over
    assert_consistent(report)
    if policy == "replace":
        assert_same(source, target)
        return
    left = report.run.skipped if policy == "skip" else report.run.failed
    assert len(foreign) <= left <= 2 * len(foreign)
    assert all(ask(target, "GET", key) == b"theirs" for key in foreign)
    fill(target, [("DEL", key) for key in foreign])
    fill(source, [("DEL", key) for key in foreign])
    assert_same(source, target)


@every_name
def test_a_slot_that_stays_half_moved(name: str, cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = cluster(name), flushed("valkey-9.1")
    fill_source(source)
    half = FROM[:2]
    half_move(source, half, 1)
    copying = Copying(tmp_path / "state")
    with pytest.raises(ServerError) as ended:
        copying.run(source, target, retry_s=0.5)
    assert ended.value.exit_code is ExitCode.SERVER
    assert all(str(slot) in ended.value.message for slot in half)
    assert "redis-cli --cluster fix" in ended.value.hint
    finish_slots(source, half)
    report = copying.run(source, target)
    assert report.resumed
    assert_consistent(report)
    # Only what was on its way, and its neighbours on the node that took it over.
    assert report.run.scanned < KEYS / 2
    assert assert_same(source, target).keys_target == KEYS


def test_a_half_moved_slot_is_waited_for(cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = cluster("valkey-9.1"), flushed("redis-8.2")
    fill_source(source)
    half = FROM[:2]
    moments = (
        Moments()
        .at(100, lambda: half_move(source, half, 1))
        .when(lambda progress: "waiting" in progress.stage, lambda: finish_slots(source, half))
    )
    copying = Copying(tmp_path / "state", on_progress=moments)
    report = copying.run(source, target, max_rate=1_000, batch=20)
    assert moments.over
    assert_consistent(report)
    assert assert_same(source, target).keys_target == KEYS


def test_a_target_that_is_emptied_while_a_slot_is_waited_for(
    cluster: Clusters, start_server: Flushed, tmp_path: Path
) -> None:
    """Nothing is connected to it then: its restart is found out when it is met again."""
    source, target = cluster("redis-7.0"), start_server("valkey-9.1")
    fill_source(source)
    half_move(source, FROM[:1], 1)

    def act() -> None:
        target.restart(keep_data=False)
        source.finish_slot(FROM[0])

    moments = Moments().when(lambda progress: "waiting" in progress.stage, act)
    copying = Copying(tmp_path / "state", on_progress=moments)
    report = copying.run(source, target)
    assert moments.over
    assert_consistent(report)
    assert assert_same(source, target).keys_target == KEYS


def test_a_node_that_joins_and_takes_slots(start_cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = start_cluster("redis-7.0"), flushed("valkey-9.1")
    fill_source(source)

    def act() -> None:
        source.add_node()
        move_slots(source, FROM[::2], 3)

    moments = Moments().at(250, act)
    report = Copying(tmp_path / "state", on_progress=moments).run(source, target, max_rate=800, batch=20)
    assert moments.over
    assert_consistent(report)
    assert assert_same(source, target).keys_target == KEYS


def test_big_keys_that_move(cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    """In pieces, under a WATCH, while their slots go."""
    source, target = cluster("redis-7.0"), flushed("valkey-9.1")
    fill_source(source)
    for at, slot in enumerate(FROM[:12]):
        key = b"big:%d:{%b}" % (at, tag_of(slot))
        fill(
            source,
            [("RPUSH", key, *(f"{j}-{at}" * 20 for j in range(i * 500, i * 500 + 500))) for i in range(20)],
        )
    moments = (
        Moments()
        .at(100, lambda: move_slots(source, FROM[:6], 1))
        .at(400, lambda: move_slots(source, FROM[6:12], 2))
    )
    report = Copying(tmp_path / "state", on_progress=moments).run(
        source, target, max_rate=800, batch=20, big_key_members=1_000
    )
    assert moments.over
    assert_consistent(report)
    assert report.run.methods[3] >= 12
    assert assert_same(source, target).keys_target == KEYS + 12


def test_only_what_is_selected_is_gone_over(cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = cluster("redis-6.2"), flushed("valkey-9.1")
    fill_source(source)
    fill_slots(source, FROM, 3, prefix=b"other")
    moments = Moments().at(250, lambda: move_slots(source, FROM[::2], 1))
    report = Copying(tmp_path / "state", on_progress=moments).run(
        source, target, max_rate=800, batch=20, selection=Selection(match=(b"k:*",))
    )
    assert moments.over
    assert_consistent(report)
    assert ask(target, "KEYS", "other*") == []
    assert keys_of(target) == KEYS


def test_killed_while_slots_move(cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    """Slots move while the command runs, and between its runs; what one run knew the next one must not forget."""
    source, target = cluster("redis-8.2"), flushed("valkey-9.1")
    fill_source(source)
    places = [1, 2, 0]
    for round_, to in enumerate(places):
        with Process(source.url, target.url, tmp_path, "--max-rate", "400", "--batch", "20") as running:
            wait_until(lambda: keys_of(target) > 150 * (round_ + 1), "some keys")  # noqa: B023
            with Beside(lambda: move_slots(source, FROM[round_::3], to)):  # noqa: B023
                wait_until(lambda: keys_of(target) > 180 * (round_ + 1), "some more keys")  # noqa: B023
                running.process.kill()
        move_slots(source, FROM[round_ + 1 :: 4], to)
    with Process(source.url, target.url, tmp_path) as running:
        status, report, err = running.end()
    assert status == 0, err
    assert report["resumed"]
    assert report["total_scanned"] == report["total_copied"]
    assert assert_same(source, target).keys_target == KEYS
