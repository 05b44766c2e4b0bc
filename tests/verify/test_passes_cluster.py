"""The passes where one side or both are clusters: keys by lane, slots that move, nodes that send us elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from passing import Passing, compare
from test_passes import ask, copied, has_field_expiry

from keyferry.payload.names import slot
from keyferry.testing.cases import build, cases_for
from keyferry.testing.cluster import Cluster
from keyferry.testing.dataset import fill
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server
from keyferry.verify.passes import open_compare, open_extras


def test_every_encoding_and_each_kind_of_difference(
    deployment_pair: tuple[Deployment, Deployment], tmp_path: Path
) -> None:
    source, target = deployment_pair
    field_expiry = has_field_expiry(target.primaries[0])
    cases = [
        case
        for case in cases_for(source.binary.version, source.binary.family)
        if field_expiry or not case.field_expiry
    ]
    with source.session() as client:
        build(client, cases)
    copied(source, target, tmp_path)
    found = compare(source, target)
    assert (found.suspects, found.big, found.moved) == ([], [], set())
    assert found.compared == found.looked_for == len(cases)
    missing, another = cases[0::4], cases[1::4]
    extra = [b"extra:%d" % i for i in range(40)]
    with target.session() as client:
        client.pipeline([("DEL", case.key) for case in (*missing, *another)])
        client.pipeline([("RPUSH", case.key, "something", "else") for case in another])
        client.pipeline([("SET", key, 1) for key in extra])
    found = compare(source, target)
    assert found.names == sorted([*(case.key for case in (*missing, *another)), *extra])


def test_only_keys_of_given_slots(cluster: Callable[..., Cluster]) -> None:
    source, target = cluster("redis-7.0"), cluster("redis-7.0", 3, 1)
    with source.session() as client:
        client.pipeline([("SET", b"key:%d" % i, 1) for i in range(300)])
    with target.session() as client:
        client.pipeline([("SET", b"extra:%d" % i, 1) for i in range(300)])
    passing = Passing(source, target)
    slots = frozenset(range(0, 16384, 2))
    for shard in passing.sides.source.shards:
        passing.drive(open_compare(passing.context, shard.id, 0, slots=slots))
    assert passing.found.names == sorted(
        key for key in (b"key:%d" % i for i in range(300)) if slot(key) in slots
    )
    passing.found.suspects.clear()
    for shard in passing.sides.target.shards:
        passing.drive(open_extras(passing.context, shard.id, 0, slots=slots))
    assert passing.found.names == sorted(
        key for key in (b"extra:%d" % i for i in range(300)) if slot(key) in slots
    )


@pytest.mark.parametrize("side", ["source", "target"])
def test_keys_that_were_sent_elsewhere_are_suspects_of_named_slots(
    cluster: Callable[..., Cluster], flushed: Callable[..., Server], tmp_path: Path, side: str
) -> None:
    """The slot map is older than the cluster: every key of the moved slot is answered with MOVED."""
    moving, other = cluster("redis-7.0"), flushed("redis-7.0")
    source, target = (moving, other) if side == "source" else (other, moving)
    keys = [b"{tag}%d" % i for i in range(20)]
    with source.session() as client:
        client.pipeline([("SET", key, 1) for key in keys])
        client.pipeline([("SADD", b"{tag}set%d" % i, i) for i in range(20)])
        client.pipeline([("SET", b"key:%d" % i, 1) for i in range(200)])
    copied(source, target, tmp_path)
    number = slot(b"{tag}")
    passing = Passing(source, target)
    owner = moving.primaries.index(moving.owner_of(number))
    moving.move_slot(number, (owner + 1) % 3)
    for shard in passing.sides.source.shards:
        passing.drive(open_compare(passing.context, shard.id, 0))
    if side == "target":
        assert passing.found.moved == {number}
        assert set(passing.found.names) == {*keys, *(b"{tag}set%d" % i for i in range(20))}
    passing.found.suspects.clear()
    passing.found.moved.clear()
    for shard in passing.sides.target.shards:
        passing.drive(open_extras(passing.context, shard.id, 0))
    if side == "source":
        assert passing.found.moved == {number}
        assert set(passing.found.names) == {*keys, *(b"{tag}set%d" % i for i in range(20))}
    # A new look at the clusters, and nothing is wrong.
    found = compare(source, target)
    assert (found.suspects, found.moved) == ([], set())


def test_a_slot_under_way_is_told(
    cluster: Callable[..., Cluster], flushed: Callable[..., Server], tmp_path: Path
) -> None:
    """ASK for keys that have gone already."""
    source, target = flushed("redis-7.0"), cluster("redis-7.0")
    keys = [b"{tag}%d" % i for i in range(20)]
    with source.session() as client:
        client.pipeline([("SET", key, 1) for key in keys])
    copied(source, target, tmp_path)
    number = slot(b"{tag}")
    node = target.owner_of(number)
    there = (target.primaries.index(node) + 1) % 3
    other = target.primaries[there]
    me, it = (ask(server, "CLUSTER", "MYID") for server in (node, other))
    assert isinstance(me, bytes)
    assert isinstance(it, bytes)
    ask(other, "CLUSTER", "SETSLOT", number, "IMPORTING", me)
    ask(node, "CLUSTER", "SETSLOT", number, "MIGRATING", it)
    try:
        ask(node, "MIGRATE", "127.0.0.1", other.port, "", 0, 5000, "KEYS", *keys[:5])
        passing = Passing(source, target)
        found = passing.run()
        assert found.moved == {number}
        assert set(found.names) == set(keys[:5])
    finally:
        ask(other, "CLUSTER", "SETSLOT", number, "STABLE")
        ask(node, "CLUSTER", "SETSLOT", number, "STABLE")
        ask(other, "FLUSHALL")


def test_many_keys_of_all_sizes_between_clusters(cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    source, target = cluster("redis-7.0"), cluster("redis-7.0", 2)
    with source.session() as client:
        fill(client, 3000)
    copied(source, target, tmp_path)
    with target.session() as client:
        client.pipeline([("SET", b"extra:%d" % i, i) for i in range(100)])
    found = compare(source, target, batch=200)
    assert found.names == sorted(b"extra:%d" % i for i in range(100))
    assert (found.compared, found.looked_for) == (3000, 3100)
