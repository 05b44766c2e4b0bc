"""What is asked of a copy holds over all shards: addresses, policies, limits, expiries, what is shown."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clustering import (
    Moments,
    assert_same,
    fill_slots,
    finish_slots,
    forget_redirections,
    half_move,
    move_slots,
    names_in,
    own_names,
    redirections,
    some_slots,
)

from copying import Beside, Copying, ask, assert_consistent, fill, keys_of, wait_until
from keyferry.model.address import parse_endpoint
from keyferry.model.announced import AddressMap
from keyferry.model.errors import InterruptedRun, RefusedError, ServerError
from keyferry.model.selection import Selection
from keyferry.telemetry.progress import Progress
from keyferry.testing.announcing import announce_names, announce_ports
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server

Clusters = Callable[..., Cluster]
Flushed = Callable[..., Server]

SHARDS = [some_slots(shard, 5) for shard in range(3)]
SLOTS = [slot for slots in SHARDS for slot in slots]


# Addresses


@contextmanager
def announcing_ports(*clusters: Cluster) -> Iterator[list[AddressMap]]:
    """Ports on which nobody listens, and what leads from them to the nodes."""
    maps = []
    try:
        for cluster in clusters:
            nowhere = range(1, 1 + len(cluster.nodes))
            announce_ports(cluster, nowhere)
            pairs = zip(nowhere, cluster.nodes, strict=True)
            maps.append(
                AddressMap.of((("127.0.0.1", port), ("localhost", node.port)) for port, node in pairs)
            )
        yield maps
    finally:
        for cluster in clusters:
            announce_ports(cluster, [0] * len(cluster.nodes))


def test_announced_ports_that_lead_nowhere(cluster: Clusters, tmp_path: Path) -> None:
    """Also in the redirections of slots that move."""
    source, target = cluster("redis-7.0"), cluster("valkey-9.1")
    fill_slots(source, SLOTS, 40)
    with announcing_ports(source, target) as (source_map, target_map):
        with pytest.raises(ServerError, match="announces") as ended:
            Copying(tmp_path / "unmapped").run(source, target, retry_s=0.2)
        assert "--source-map" in ended.value.hint

        def move() -> None:
            move_slots(source, SHARDS[0][:2], 1)
            move_slots(target, SHARDS[1][:2], 2)
            half_move(target, SHARDS[2][:2], 0)

        forget_redirections(target)
        moments = (
            Moments()
            .at(100, move)
            .when(lambda progress: progress.elapsed_s > 1, lambda: finish_slots(target, SHARDS[2][:2]))
        )
        report = Copying(tmp_path / "mapped", on_progress=moments).run(
            source, target, max_rate=400, batch=20, source_map=source_map, target_map=target_map
        )
    assert moments.over
    assert redirections(target)["MOVED"]
    assert_consistent(report)
    assert assert_same(source, target).keys_target == 40 * len(SLOTS)


def test_announced_names_that_nobody_knows(start_cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), start_cluster("redis-7.0")
    fill_slots(source, SLOTS, 40)
    names = [f"node-{i}.nowhere.invalid" for i in range(3)]
    announce_names(target, names)
    target_map = AddressMap.of(((name, None), ("127.0.0.1", None)) for name in names)
    moments = Moments().at(100, lambda: move_slots(target, SHARDS[1][:2], 2))
    report = Copying(tmp_path / "state", on_progress=moments).run(
        source, target, max_rate=800, batch=20, target_map=target_map
    )
    assert moments.over
    assert_consistent(report)
    assert assert_same(source, target).keys_target == 40 * len(SLOTS)


def test_some_of_the_named_nodes_are_gone(cluster: Clusters, tmp_path: Path) -> None:
    source, target = cluster("redis-7.0"), cluster("valkey-9.1")
    fill_slots(source, SLOTS, 4)
    places = (
        parse_endpoint(f"redis+cluster://127.0.0.1:1,127.0.0.1:2,127.0.0.1:{side.nodes[2].port}")
        for side in (source, target)
    )
    report = Copying(tmp_path / "state").run(*places)
    assert report.run.copied == 4 * len(SLOTS)
    assert_same(source, target)


def test_a_replica_is_named(start_cluster: Clusters, tmp_path: Path) -> None:
    """On either side; it is only asked where its primary is."""
    source, target = start_cluster("redis-7.0", 1, 1), start_cluster("valkey-9.1", 2, 1)
    fill_slots(source, SLOTS, 4)
    report = Copying(tmp_path / "state").run(source.nodes[-1].endpoint, target.nodes[-1].endpoint)
    assert report.run.copied == 4 * len(SLOTS)
    assert_same(source, target)


# Refusals and policies


def test_one_cluster_on_both_sides(cluster: Clusters, tmp_path: Path) -> None:
    both = cluster("redis-7.0")
    fill_slots(both, SLOTS, 4)
    for policy in (None, "replace"):
        with pytest.raises(RefusedError, match="same cluster"):
            Copying(tmp_path / "state").run(
                both.nodes[0].endpoint, both.nodes[2].endpoint, on_conflict=policy
            )
    assert own_names(both) == []


def test_one_cluster_is_known_without_run_ids(cluster: Clusters, tmp_path: Path) -> None:
    """INFO, which tells them, may be forbidden; its nodes have ids all the same."""
    both = cluster("valkey-9.1")
    fill_slots(both, SLOTS, 4)
    for node in both.nodes:
        ask(node, "ACL", "SETUSER", "tool", "on", ">secret", "~*", "+@all", "-info")
    try:
        ends = (parse_endpoint(f"redis://tool:secret@127.0.0.1:{both.nodes[i].port}") for i in (0, 2))
        with pytest.raises(RefusedError, match="same cluster"):
            Copying(tmp_path / "state").run(*ends, on_conflict="replace")
    finally:
        for node in both.nodes:
            ask(node, "ACL", "DELUSER", "tool")


def test_several_databases_into_a_cluster(cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), cluster("valkey-9.1")
    fill(source, [("SET", "a", "0")])
    fill(source, [("SET", "a", "3")], db=3)
    with pytest.raises(RefusedError, match="Databases 0, 3 cannot go into a cluster"):
        Copying(tmp_path / "state").run(source, target, selection=Selection(databases=None))
    assert keys_of(target) == 0
    selection = Selection(databases=(3,), database_map={3: 0})
    assert Copying(tmp_path / "one").run(source, target, selection=selection).run.copied == 1
    assert ask(target, "GET", "a") == b"3"


@pytest.mark.parametrize("policy", [None, "skip", "fail", "replace"])
def test_foreign_keys_on_one_shard(policy: str | None, cluster: Clusters, tmp_path: Path) -> None:
    source, target = cluster("redis-7.0"), cluster("valkey-9.1", 2)
    names = fill_slots(source, SLOTS, 20)
    foreign = names_in(SHARDS[2], 8)
    others = names_in(SHARDS[2], 3, b"other")
    fill(target, [("SET", key, "theirs") for key in foreign + others])
    copying = Copying(tmp_path / "state")
    if policy is None:
        with pytest.raises(RefusedError, match=f"{len(foreign + others)} keys"):
            copying.run(source, target)
        assert keys_of(target) == len(foreign + others)
        return
    report = copying.run(source, target, on_conflict=policy)
    assert_consistent(report)
    kept = 0 if policy == "replace" else len(foreign)
    assert report.run.copied == len(names) - kept
    assert (report.run.skipped, report.run.failed)[policy == "fail"] == (kept if policy != "replace" else 0)
    fill(target, [("DEL", key) for key in others])
    if kept:
        assert {ask(target, "GET", key) for key in foreign} == {b"theirs"}
        for side in (source, target):
            fill(side, [("DEL", key) for key in foreign])
    assert_same(source, target)


# Limits


def test_max_rate_is_one_for_all_and_shared(cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = cluster("redis-7.0"), flushed("valkey-9.1")
    for at, slots in enumerate(SHARDS):
        fill_slots(source, slots, 120, prefix=b"shard%d" % at, expiring=False)
    shares: Counter[bytes] = Counter()

    def look() -> None:
        keys = ask(target, "KEYS", "*")
        assert isinstance(keys, list)
        shares.update(key.partition(b":")[0] for key in keys if isinstance(key, bytes))

    moments = Moments().at(900, look)
    report = Copying(tmp_path / "state", on_progress=moments).run(source, target, max_rate=900, batch=50)
    assert moments.over
    assert 1.9 <= report.seconds <= 3.5
    assert report.throttled_seconds > 1
    # An equal share is a third.
    assert min(shares.values()) > 0.2 * shares.total(), shares
    assert_same(source, target)


def test_max_bandwidth_is_one_for_all(cluster: Clusters, tmp_path: Path) -> None:
    source, target = cluster("redis-7.0"), cluster("valkey-9.1", 2)
    noise = random.Random(1)
    names = names_in(SLOTS, 20)
    fill(source, [("SET", key, noise.randbytes(10_000)) for key in names])
    bandwidth = 1_500_000
    seen: list[tuple[float, int]] = []
    copying = Copying(
        tmp_path / "state",
        on_progress=lambda progress: seen.append((progress.elapsed_s, progress.bytes_done)),
    )
    report = copying.run(source, target, max_bandwidth=bandwidth)
    assert report.run.bytes / bandwidth - 0.3 <= report.seconds <= report.run.bytes / bandwidth + 2
    for elapsed_s, done in seen:
        assert done <= bandwidth * (elapsed_s + 0.3) + 3 * 10_000, (elapsed_s, done)
    assert_same(source, target)


@pytest.mark.parametrize("side", ["source", "target"])
def test_the_guard_heeds_every_server(side: str, cluster: Clusters, tmp_path: Path) -> None:
    sides = {"source": cluster("redis-7.0"), "target": cluster("valkey-9.1")}
    fill_slots(sides["source"], SLOTS, 600)
    states: set[str] = set()
    copying = Copying(tmp_path / "state", on_progress=lambda progress: states.add(progress.throttle))

    def disturb() -> None:
        wait_until(lambda: keys_of(sides["target"]) > 300, "the first keys")
        end_s = time.monotonic() + 1.0
        with sides[side].nodes[2].session() as session:
            while time.monotonic() < end_s:
                assert session.call("DEBUG", "SLEEP", "0.12") == b"OK"

    with Beside(disturb):
        report = copying.run(sides["source"], sides["target"], max_rate=5_000, max_latency_ms=50.0)
    assert "slowed" in states
    assert_consistent(report)
    assert_same(sides["source"], sides["target"])


def test_the_sum_and_the_slowest_shard_are_shown(cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = cluster("redis-7.0"), flushed("valkey-9.1")
    fill_slots(source, SHARDS[1], 160)
    fill_slots(source, [*SHARDS[0], *SHARDS[2]], 20)
    seen: list[Progress] = []
    copying = Copying(tmp_path / "state", on_progress=seen.append)
    copying.run(source, target, max_rate=900, batch=20)
    assert {progress.shards for progress in seen} == {3}
    assert {progress.keys_total for progress in seen} == {1_000}
    assert [progress.keys_done for progress in seen] == sorted(progress.keys_done for progress in seen)
    assert seen[-1].keys_done == 1_000
    late = [progress.slowest for progress in seen if 300 < progress.keys_done < 950]
    assert late
    for slowest in late:
        assert slowest is not None
        assert str(source.nodes[1].port) in slowest.name
        assert slowest.keys_total == 800
    assert seen[-1].slowest is None


def test_a_shard_that_an_earlier_run_finished_is_not_the_slowest(
    cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    source, target = cluster("redis-7.0"), flushed("valkey-9.1")
    fill_slots(source, SHARDS[1], 100)
    fill_slots(source, SHARDS[0], 4)
    first = Copying(tmp_path / "state")
    first.on_progress = Moments().at(300, first.stop.request)
    with pytest.raises(InterruptedRun):
        first.run(source, target, max_rate=1_000, batch=20)
    fill_slots(source, SHARDS[0], 400, prefix=b"new")
    seen: list[Progress] = []
    Copying(tmp_path / "state", on_progress=seen.append).run(source, target, max_rate=500, batch=20)
    named = {progress.slowest.name for progress in seen if progress.slowest}
    assert len(named) == 1
    assert str(source.nodes[1].port) in named.pop()


# Expiries


@pytest.mark.parametrize("pair", ["redis-7.0 valkey-9.1", "redis-6.2 redis-7.0"])
def test_expiries_that_come_while_nobody_asks_for_them(pair: str, cluster: Clusters, tmp_path: Path) -> None:
    """No key expires when the copy begins. Then some do that are not copied yet; slots move besides."""
    name, other = pair.split()
    source, target = cluster(name), cluster(other, 2)
    names = fill_slots(source, SLOTS, 60, expiring=False)
    late: list[bytes] = []

    def expire() -> None:
        time.sleep(0.1)  # what was sent has been written
        with target.session() as session:
            late.extend(key for key in names if not session.call("EXISTS", key))
        fill(source, [("PEXPIREAT", key, 4_102_444_800_000 + i) for i, key in enumerate(late[:-60])])
        fill(source, [("PEXPIRE", key, 30) for key in late[-60:-30]])
        fill(source, [("DEL", key) for key in late[-30:]])
        move_slots(source, SHARDS[0][:2], 1)
        move_slots(target, SHARDS[1][:2], 0)

    copying = Copying(tmp_path / "state", on_progress=Moments().at(200, expire))
    report = copying.run(source, target, max_rate=800, batch=20)
    assert len(late) > 200
    assert any("Keys expire on the source" in sentence for sentence in copying.told)
    assert_consistent(report)
    with target.session() as session:
        lives = [session.call("PTTL", key) for key in late[:-60]]
    assert all(isinstance(left, int) and left > 0 for left in lives)
    assert assert_same(source, target).keys_target == len(names) - 60


def test_every_key_comes_with_its_expiry_at_any_time(cluster: Clusters, tmp_path: Path) -> None:
    """A writer gives keys an expiry all the time; none that has one on the source is ever without on the target."""
    source, target = cluster("redis-7.0"), cluster("valkey-9.1", 2)
    names = fill_slots(source, SLOTS, 60, expiring=False)
    done = threading.Event()
    given: list[bytes] = []

    def give() -> None:
        wait_until(lambda: keys_of(target) > 100, "the first keys")
        chance = random.Random(2)
        with source.session() as here, target.session() as there:
            while not done.is_set() and len(given) < 300:
                key = chance.choice(names)
                here.call("SET", key, "changed", "PXAT", 4_102_444_800_000)
                if there.call("EXISTS", key) == 0:
                    given.append(key)

    with Beside(give):
        try:
            report = Copying(tmp_path / "state").run(source, target, max_rate=600, batch=20)
        finally:
            done.set()
    assert_consistent(report)
    assert len(given) > 10
    time.sleep(0.05)
    with target.session() as session:
        for key in given:
            # It was written before it had one on the source, and was on its way; or it has it.
            value, left = session.call("TYPE", key), session.call("PTTL", key)
            if session.call("GET", key) == b"changed" and value == b"string":
                assert isinstance(left, int)
                assert left > 0, key
