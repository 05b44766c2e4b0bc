"""The test kit's clusters do what they say, with every program at hand."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from keyferry.model.address import parse_endpoint
from keyferry.model.errors import KeyferryError
from keyferry.testing.announcing import announce_names, announce_ports, behind_proxies
from keyferry.testing.binaries import server_names
from keyferry.testing.cases import ODD_NAMES, build, cases_for
from keyferry.testing.cluster import Cluster
from keyferry.testing.cluster_client import ClusterClient
from keyferry.testing.compare import compare_databases
from keyferry.testing.dataset import fill, fill_mix, fill_strings
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server
from keyferry.testing.topology import SLOTS, hash_slot, parse_nodes
from keyferry.wire.resp import Reply, ReplyError
from keyferry.wire.session import ConnectionLost, Session

SLOT = hash_slot(b"foo")
TAGGED = [b"{foo}%d" % i for i in range(25)]

Clusters = Callable[..., Cluster]

every_name = pytest.mark.parametrize("name", server_names())


@every_name
def test_the_primaries_have_all_slots_evenly_and_serve(name: str, cluster: Clusters) -> None:
    three = cluster(name)
    slots = [three.slots_of(i) for i in range(3)]
    assert sorted(slot for part in slots for slot in part) == list(range(SLOTS))
    assert all(abs(len(part) - SLOTS / 3) < 1 for part in slots)
    assert three.primaries == three.nodes
    for i, node in enumerate(three.nodes):
        with node.session() as session:
            info = session.call("CLUSTER", "INFO")
            assert isinstance(info, bytes)
            assert b"cluster_state:ok" in info
            assert b"cluster_known_nodes:3" in info
            key = next(b"k%d" % n for n in range(1000) if hash_slot(b"k%d" % n) in slots[i])
            assert session.call("SET", key, "v") == b"OK"
        assert three.owner_of(key) is three.owner_of(min(slots[i])) is node


@every_name
def test_six_nodes_take_no_longer_than_a_primary_waits(name: str, start_cluster: Clusters) -> None:
    begin = time.monotonic()
    six = start_cluster(name, 6)
    # 2.1 s on a quiet machine.
    assert time.monotonic() - begin < 8
    assert len(six.cluster_url.split(",")) == len(six.primaries) == 6


def test_slots_are_those_of_the_servers(cluster: Clusters) -> None:
    with cluster("redis-7.0").nodes[0].session() as session:
        names = [*ODD_NAMES.values(), b"a{b}{c}", b"{}{x}", b"{a{b}c}", *TAGGED[:2]]
        assert [session.call("CLUSTER", "KEYSLOT", name) for name in names] == list(map(hash_slot, names))


def test_what_nodes_say_is_read() -> None:
    lines = (
        b"a1 127.0.0.1:7001@17001,name.example,shard-id=x myself,master - 0 0 3 connected 0-2 7 [9->-b2] [8-<-b2]\n"
        b"b2 :0@0 slave,fail?,noaddr a1 1 2 3 disconnected\n"
    )
    first, second = parse_nodes(lines)
    assert (first.node_id, first.address, first.hostname) == ("a1", "127.0.0.1:7001", "name.example")
    assert (first.slots, first.is_primary, first.is_healthy) == (frozenset({0, 1, 2, 7}), True, True)
    assert (second.primary_id, second.slots, second.is_primary) == ("a1", frozenset(), False)
    assert (second.hostname, second.is_healthy) == ("", False)


@every_name
def test_every_case_is_built_at_its_owner(name: str, cluster: Clusters) -> None:
    three = cluster(name)
    cases = cases_for(three.binary.version, three.binary.family)
    with three.session() as client:
        build(client, cases)
        assert client.call("DBSIZE") == len(cases)
        by_key = {case.key: case for case in cases}
        for node, session in client.parts():
            keys = session.call("KEYS", "*")
            assert isinstance(keys, list)
            for key in keys:
                assert isinstance(key, bytes)
                assert three.nodes.index(node) == client.place(key)
                case = by_key.pop(key)
                assert not case.encoding or session.call("OBJECT", "ENCODING", key) == case.encoding.encode()
        assert not by_key


def test_the_client_sends_each_command_where_it_belongs(cluster: Clusters) -> None:
    three = cluster("redis-7.0")
    keys = [b"key:%d" % i for i in range(30)]
    with three.session() as client:
        assert client.pipeline([("SET", key, key) for key in keys]) == [b"OK"] * 30
        assert client.pipeline([("GET", key) for key in reversed(keys)]) == keys[::-1]
        raw = b"".join(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key) for key in keys)
        assert client.exchange_raw(raw) == b"".join(b"$%d\r\n%b\r\n" % (len(key), key) for key in keys)
        assert client.call("DBSIZE") == 30
        found = client.call("KEYS", "*")
        assert isinstance(found, list)
        assert sorted(key for key in found if isinstance(key, bytes)) == sorted(keys)
        assert client.call("EVAL", "return redis.call('GET', KEYS[1])", 1, keys[5]) == keys[5]
        assert client.call("XGROUP", "CREATE", "stream", "g", "0", "MKSTREAM") == b"OK"
        assert client.call("XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream", ">") is None
        for node in three.nodes:
            with node.session() as session:
                size = session.call("DBSIZE")
                assert isinstance(size, int)
                assert size > 2
        session = client.session_of(keys[0])
        assert session.pipeline([("MULTI",), ("INCR", "{key:0}"), ("EXEC",)])[2] == [1]
        with pytest.raises(KeyferryError, match="session_of"):
            client.call("MULTI")
    with pytest.raises(KeyferryError, match="no other database"):
        three.session(1)


def _fill_tagged(cluster: Cluster) -> None:
    with cluster.session() as client:
        client.pipeline([("SET", key, key) for key in TAGGED])


def _read_tagged(client: ClusterClient) -> list[Reply]:
    return client.pipeline([("GET", key) for key in TAGGED])


def _counts(cluster: Cluster) -> list[Reply]:
    return [_asked(node, "CLUSTER", "COUNTKEYSINSLOT", SLOT) for node in cluster.nodes]


def _asked(node: Server, *command: str | bytes | int) -> Reply:
    with node.session() as session:
        return session.call(*command)


@every_name
def test_a_slot_moves_with_its_keys_while_clients_go_on(name: str, cluster: Clusters) -> None:
    three = cluster(name)
    _fill_tagged(three)
    giver, taker = three.owner_of(SLOT), three.nodes[0]
    assert giver is three.nodes[2]
    counts: list[list[Reply]] = []
    with three.session() as client:

        def look() -> None:
            counts.append(_counts(three))
            assert _read_tagged(client) == TAGGED
            assert client.call("SET", b"{foo}new %d" % len(counts), "during") == b"OK"

        three.move_slot(SLOT, 0, keys_per_step=10, between=look)
        assert _read_tagged(client) == TAGGED
        assert client.call("DBSIZE") == len(TAGGED) + len(counts)
    # What is new is made at the new owner at once.
    assert counts == [[0, 0, 25], [11, 0, 15], [22, 0, 5], [28, 0, 0]]
    assert [three.owner_of(where) for where in (SLOT, b"foo", "{foo}x")] == [taker] * 3
    for node in (giver, three.nodes[1]):
        assert _asked(node, "GET", "foo") == ReplyError(f"MOVED {SLOT} 127.0.0.1:{taker.port}")
    three.reset()
    assert three.owner_of(SLOT) is giver
    assert three.slots_of(0) == set(range(SLOTS // 3))


@every_name
def test_a_slot_can_be_left_half_moved(name: str, cluster: Clusters) -> None:
    three = cluster(name)
    _fill_tagged(three)
    three.move_slot(SLOT, 1, keys_per_step=10, finish=False)
    assert _counts(three) == [0, 10, 15]
    assert three.owner_of(SLOT) is three.nodes[2]
    said = {
        reply.code for key in TAGGED if isinstance(reply := _asked(three.nodes[2], "GET", key), ReplyError)
    }
    assert said == {"ASK"}
    with three.session() as client:
        assert _read_tagged(client) == TAGGED
    three.finish_slot(SLOT)
    assert _counts(three) == [0, 25, 0]
    three.move_slot(SLOT, 0, finish=False)
    three.reset()
    assert _counts(three) == [0, 0, 0]
    assert three.owner_of(SLOT) is three.nodes[2]


def test_slots_move_under_a_password(start_cluster: Clusters) -> None:
    two = start_cluster("redis-6.2", 2, requirepass="secret")
    _fill_tagged(two)
    two.move_slot(SLOT, 0)
    with two.session() as client:
        assert _read_tagged(client) == TAGGED


@every_name
def test_a_node_joins_and_takes_slots(name: str, start_cluster: Clusters) -> None:
    cluster = start_cluster(name, 2)
    _fill_tagged(cluster)
    newcomer = cluster.add_node()
    assert cluster.nodes[2] is newcomer
    assert cluster.slots_of(2) == set()
    with cluster.session() as client:
        cluster.move_slot(SLOT, 2)
        assert _read_tagged(client) == TAGGED
        assert cluster.slots_of(2) == {SLOT}
        cluster.flush()
        assert client.call("DBSIZE") == 0


def test_a_killed_node_comes_back_as_itself(start_cluster: Clusters) -> None:
    three = start_cluster("valkey-9.1")
    _fill_tagged(three)
    node_id, port = three.node_id(2), three.nodes[2].port
    with three.nodes[2].session() as session:
        three.kill(2)
        with pytest.raises(ConnectionLost):
            session.call("PING")
    assert three.primaries == three.nodes[:2]
    three.restart(2)
    assert (three.node_id(2), three.nodes[2].port) == (node_id, port)
    assert three.owner_of(SLOT) is three.nodes[2]
    assert _counts(three) == [0, 0, 0]


@every_name
def test_a_replica_takes_over(name: str, start_cluster: Clusters) -> None:
    cluster = start_cluster(name, 3, replicas=1)
    assert cluster.primaries == cluster.nodes[:3]
    _fill_tagged(cluster)
    assert cluster.fail_over(2) is cluster.nodes[5]
    assert cluster.owner_of(SLOT) is cluster.nodes[5]
    assert cluster.primaries == [cluster.nodes[i] for i in (0, 1, 5)]
    with cluster.session() as client:
        assert _read_tagged(client) == TAGGED


def test_without_full_coverage_the_others_serve_on(start_cluster: Clusters) -> None:
    three = start_cluster("redis-7.0", cluster_node_timeout="500", cluster_require_full_coverage="no")
    three.kill(2)
    three.wait_for_views(lambda view: any("fail" in node.flags for node in view))
    with three.nodes[0].session() as session:
        key = next(b"k%d" % n for n in range(1000) if three.owner_of(b"k%d" % n) is three.nodes[0])
        assert session.call("SET", key, "v") == b"OK"


@every_name
def test_announced_ports_are_what_clients_are_told(name: str, start_cluster: Clusters) -> None:
    three = start_cluster(name)
    _fill_tagged(three)
    announce_ports(three, [1, 2, 3])
    for node in three.nodes[:2]:
        assert _asked(node, "GET", "foo") == ReplyError(f"MOVED {SLOT} 127.0.0.1:3")
    for node in three.nodes:
        slots = _asked(node, "CLUSTER", "SLOTS")
        assert isinstance(slots, list)
        assert {shard[2][1] for shard in slots} == {1, 2, 3}  # type: ignore[index]
    with three.session() as client:
        assert _read_tagged(client) == TAGGED
        # The nodes go on talking to each other, and what they agree on spreads.
        three.move_slot(SLOT, 0, finish=False)
        assert _read_tagged(client) == TAGGED
        three.finish_slot(SLOT)
        assert _read_tagged(client) == TAGGED
    three.wait_until_agreed()
    announce_ports(three, [0, 0, 0])
    assert _asked(three.nodes[2], "GET", "foo") == ReplyError(f"MOVED {SLOT} 127.0.0.1:{three.nodes[0].port}")


@every_name
def test_announced_names_are_what_clients_are_told(
    name: str, cluster: Clusters, start_cluster: Clusters
) -> None:
    names = [f"node-{i}.keyferry.invalid" for i in range(3)]
    if name == "redis-6.2":
        with pytest.raises(KeyferryError, match="cannot announce names"):
            announce_names(cluster(name), names)
        return
    three = start_cluster(name)
    _fill_tagged(three)
    announce_names(three, names)
    for node in three.nodes[:2]:
        moved = ReplyError(f"MOVED {SLOT} {names[2]}:{three.nodes[2].port}")
        assert _asked(node, "GET", "foo") == moved
    with three.session() as client:
        three.move_slot(SLOT, 0)
        assert _read_tagged(client) == TAGGED


@every_name
def test_fault_proxies_stand_before_all_nodes(name: str, start_cluster: Clusters) -> None:
    three = start_cluster(name)
    _fill_tagged(three)
    with behind_proxies(three) as proxies:
        moved = _asked(three.nodes[0], "GET", TAGGED[0])
        assert moved == ReplyError(f"MOVED {SLOT} 127.0.0.1:{proxies[2].port}")
        with Session(parse_endpoint(proxies[2].url), "source") as session:
            assert session.call("GET", TAGGED[0]) == TAGGED[0]
            proxies[2].cut()
            with pytest.raises(ConnectionLost):
                session.call("PING")
        assert [proxy.connections for proxy in proxies] == [0, 0, 1]
    moved = _asked(three.nodes[0], "GET", TAGGED[0])
    assert moved == ReplyError(f"MOVED {SLOT} 127.0.0.1:{three.nodes[2].port}")


def test_data_sets_fill_clusters(cluster: Clusters) -> None:
    three = cluster("valkey-9.1")
    with three.session() as client:
        for make in (fill, fill_mix, fill_strings):
            assert make(client, 2_000).keys == 2_000
            assert client.call("DBSIZE") == 2_000
            three.flush()


def test_every_case_equals_itself(deployment_pair: tuple[Deployment, Deployment]) -> None:
    source, target = deployment_pair
    cases = cases_for(source.binary.version, source.binary.family)
    common = {case.name for case in cases_for(target.binary.version, target.binary.family)}
    # XREADGROUP delivers now; all that was claimed has times of its own.
    cases = [case for case in cases if case.name in common and "XREADGROUP" not in repr(case.commands)]
    with source.session() as one, target.session(side="target") as other:
        build(one, cases)
        build(other, cases)
        result = compare_databases(one, other, ignore={"entries-read"})
        assert (result.keys_source, result.keys_target, result.differences) == (len(cases), len(cases), [])
        other.call("SET", "case:string:raw", "other")
        other.call("DEL", "case:list:one")
        other.call("SET", "one more", "v")
        result = compare_databases(one, other, ignore={"entries-read"})
    assert {(difference.key, difference.aspect) for difference in result.differences} == {
        (b"case:string:raw", "value"),
        (b"case:list:one", "missing"),
        (b"one more", "extra"),
    }
    assert (result.keys_source, result.keys_target) == (len(cases), len(cases))


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_key_at_a_wrong_node_is_a_difference(
    side: str, cluster: Clusters, flushed: Callable[..., Server]
) -> None:
    """One left behind when its slot moved on; clients do not see it, and nothing would ever remove it."""
    three, server = cluster("redis-7.0"), flushed("redis-7.0")
    wrong = three.nodes[0]
    source, target = (three, server) if side == "source" else (server, three)
    with source.session() as one, target.session(side="target") as other:
        for client in (one, other):
            client.call("SET", "foo", "v")
        assert compare_databases(one, other).equal
        with wrong.session() as session:
            replies = session.pipeline(
                [
                    ("CLUSTER", "SETSLOT", SLOT, "IMPORTING", three.node_id(2)),
                    ("ASKING",),
                    ("SET", "foo", "v"),
                    ("CLUSTER", "SETSLOT", SLOT, "STABLE"),
                ]
            )
        assert replies == [b"OK"] * 4
        result = compare_databases(one, other)
    assert [(difference.key, difference.aspect) for difference in result.differences] == [
        (b"foo", "misplaced")
    ]
    assert (result.keys_source, result.keys_target, result.differing_keys) == (1, 1, 1)


def test_the_comparison_of_clusters_is_quick_enough(cluster: Clusters) -> None:
    three, two = cluster("redis-7.0"), cluster("redis-7.0", 2)
    with three.session() as one, two.session(side="target") as other:
        for client in (one, other):
            fill_strings(client, 10_000, expiring=0.0)
        begin = time.process_time()
        assert compare_databases(one, other).equal
        # Twice what two servers are allowed: 200 us a key, on a slow and busy machine.
        assert time.process_time() - begin < 2
