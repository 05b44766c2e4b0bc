"""Finding out a cluster from its nodes: real clusters, also halfway through a migration or a failover."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from keyferry.copy.deployment import Deployment, discover
from keyferry.copy.slot_ledger import SlotLedger
from keyferry.model.address import Endpoint, parse_endpoint
from keyferry.model.announced import AddressMap, parse_pair
from keyferry.model.errors import ServerAway, ServerError, UsageError
from keyferry.model.topology import ALL_SLOTS
from keyferry.testing.binaries import ServerBinary
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server

StartServer = Callable[..., Server]
REDIS_6, REDIS_7, REDIS_8, VALKEY_9 = "redis-6.2", "redis-7.0", "redis-8.2", "valkey-9.1"


@pytest.fixture(scope="module")
def clusters(binaries: dict[str, ServerBinary]) -> Iterator[Callable[[str], Cluster]]:
    """One of each program for tests that leave it as it was."""
    running: dict[str, Cluster] = {}
    with contextlib.ExitStack() as stack:

        def get(name: str) -> Cluster:
            if name not in binaries:
                pytest.skip(f"{name} is not at hand")
            if name not in running:
                running[name] = stack.enter_context(Cluster(binaries[name], 3))
            return running[name]

        yield get


@pytest.fixture
def start_cluster(binaries: dict[str, ServerBinary]) -> Iterator[Callable[..., Cluster]]:
    with contextlib.ExitStack() as stack:

        def start(name: str, shards: int = 3, replicas: int = 0, **config: str) -> Cluster:
            if name not in binaries:
                pytest.skip(f"{name} is not at hand")
            directives = {key.replace("_", "-"): value for key, value in config.items()}
            return stack.enter_context(Cluster(binaries[name], shards, replicas=replicas, config=directives))

        yield start


def ports(found: Deployment) -> dict[int, str]:
    return {shard.port: shard.id for shard in found.shards}


def as_user(endpoint: Endpoint, name: str) -> Endpoint:
    return replace(endpoint, username=name, password="p")


# --- One server


def test_a_server_that_is_no_cluster(server: Server) -> None:
    endpoint = replace(server.endpoint, db=3)
    found = discover(endpoint, "source")
    assert (found.cluster, found.topology.uncovered, found.endpoint("0")) == (False, frozenset(), endpoint)
    with pytest.raises(KeyError):
        found.endpoint("1")


def test_a_server_that_is_no_cluster_at_a_cluster_address(server: Server) -> None:
    with pytest.raises(UsageError, match=r"no cluster.* Write redis://127\.0\.0\.1:\d+ "):
        discover(parse_endpoint(f"redis+cluster://127.0.0.1:{server.port}"), "source")


@pytest.mark.parametrize("name", [REDIS_7, VALKEY_9])
def test_without_the_right_to_info(
    start_server: StartServer, clusters: Callable[[str], Cluster], name: str
) -> None:
    plain, node = start_server(name), clusters(name).nodes[1]
    for server, is_cluster in ((plain, False), (node, True)):
        with server.session() as session:
            session.call("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-info")
        if is_cluster:
            for other in clusters(name).nodes:
                with other.session() as session:
                    session.call("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-info")
        assert discover(as_user(server.endpoint, "u"), "source").cluster is is_cluster


# --- A cluster


@pytest.mark.parametrize("name", [REDIS_6, REDIS_7, REDIS_8, VALKEY_9])
def test_a_cluster_from_any_node(clusters: Callable[[str], Cluster], name: str) -> None:
    cluster = clusters(name)
    seen = [discover(node.endpoint, "source") for node in cluster.nodes]
    for found in seen:
        assert found.cluster
        assert found.topology == seen[0].topology
        assert not found.topology.open_slots
    for i, node in enumerate(cluster.nodes):
        shard_id = seen[0].topology.shard_at("127.0.0.1", node.port)
        assert shard_id == cluster.node_id(i)
        assert seen[0].endpoint(shard_id) == node.endpoint
        assert next(shard for shard in seen[0].shards if shard.id == shard_id).slots == cluster.slots_of(i)
    assert [shard.epoch for shard in seen[0].shards] != [0, 0, 0]


def test_through_the_unix_socket(clusters: Callable[[str], Cluster]) -> None:
    cluster = clusters(VALKEY_9)
    found = discover(Endpoint(unix_path=str(cluster.nodes[0].unix_path)), "source")
    assert ports(found).keys() == {node.port for node in cluster.nodes}


def test_a_seed_that_is_away_does_not_matter(clusters: Callable[[str], Cluster]) -> None:
    node = clusters(REDIS_7).nodes[2]
    found = discover(parse_endpoint(f"redis+cluster://127.0.0.1:1,127.0.0.1:{node.port}"), "target")
    assert (len(found.shards), found.start) == (3, node.endpoint)


def test_no_seed_answers() -> None:
    with pytest.raises(ServerAway, match=r"None of the nodes of the source redis\+cluster://127") as caught:
        discover(parse_endpoint("redis+cluster://u:secret@127.0.0.1:1,127.0.0.1:2"), "source")
    assert "secret" not in str(caught.value)
    with pytest.raises(ServerAway, match="cannot be reached"):
        discover(parse_endpoint("redis+cluster://127.0.0.1:1"), "source")


def test_the_password_goes_to_every_node(start_cluster: Callable[..., Cluster]) -> None:
    cluster = start_cluster(VALKEY_9, requirepass="secret")
    found = discover(cluster.endpoint, "source")
    assert {found.endpoint(shard.id).password for shard in found.shards} == {"secret"}
    with pytest.raises(ServerError, match="credentials") as caught:
        discover(cluster.endpoint.with_password("wrong"), "source")
    assert not isinstance(caught.value, ServerAway)


@pytest.mark.parametrize("name", [REDIS_7, VALKEY_9])
def test_where_the_nodes_may_not_be_listed(clusters: Callable[[str], Cluster], name: str) -> None:
    cluster = clusters(name)
    with cluster.nodes[0].session() as session:
        full = discover(cluster.endpoint, "source").topology
        session.call("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all")
    rules = {"slots only": "-cluster|nodes", "nodes only": "-cluster|slots", "none": "-cluster"}
    for case, rule in rules.items():
        for node in cluster.nodes:
            with node.session() as session:
                assert session.call("ACL", "SETUSER", "v", "reset", "on", ">p", "~*", "+@all", rule) == b"OK"
        if case == "none":
            with pytest.raises(ServerError, match=r"does not say of which nodes.*CLUSTER SLOTS"):
                discover(as_user(cluster.endpoint, "v"), "source")
            continue
        found = discover(as_user(cluster.endpoint, "v"), "source").topology
        assert [(shard.id, shard.slots) for shard in found.shards] == [
            (shard.id, shard.slots) for shard in full.shards
        ]
        assert all(shard.epoch for shard in found.shards) is (case == "nodes only")
        assert found.sees_open is (case == "nodes only")


# --- Announced addresses

SHIFT = 33_000
"""From a node's port to one at which nobody listens."""


@pytest.fixture(params=[REDIS_7, VALKEY_9])
def hidden(request: pytest.FixtureRequest, start_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster whose nodes announce ports that cannot be reached (6.2 only takes these when it starts)."""
    cluster = start_cluster(request.param)
    for node in cluster.nodes:
        with node.session() as session:
            assert session.call("CONFIG", "SET", "cluster-announce-port", node.port + SHIFT) == b"OK"
    _until(
        lambda: all(
            _announced(node) == {other.port + SHIFT for other in cluster.nodes} for node in cluster.nodes
        )
    )
    return cluster


def test_nodes_announced_elsewhere(hidden: Cluster) -> None:
    pairs = [parse_pair(f"127.0.0.1:{node.port + SHIFT}=127.0.0.1:{node.port}") for node in hidden.nodes]
    found = discover(hidden.endpoint, "source", AddressMap.of(pairs))
    assert ports(found).keys() == {node.port + SHIFT for node in hidden.nodes}
    assert {found.endpoint(shard.id) for shard in found.shards} == {node.endpoint for node in hidden.nodes}
    with pytest.raises(
        ServerAway, match=r"announces 127\.0\.0\.1:\d+\..*--target-map 127\.0\.0\.1:\d+=HOST:PORT"
    ):
        discover(hidden.endpoint, "target")
    wrong = AddressMap.of([parse_pair(f"127.0.0.1=127.0.0.1:{hidden.nodes[0].port}")])
    with pytest.raises(ServerError, match=r"another node of the source's cluster answers.*--source-map"):
        discover(hidden.endpoint, "source", wrong)


@pytest.mark.parametrize("name", [REDIS_7, VALKEY_9])
def test_nodes_announced_by_name(start_cluster: Callable[..., Cluster], name: str) -> None:
    cluster = start_cluster(name, cluster_preferred_endpoint_type="hostname")
    # Nobody told the nodes their names yet: SLOTS says "?" and the address besides.
    assert ports(discover(cluster.endpoint, "source")).keys() == {node.port for node in cluster.nodes}
    for node in cluster.nodes:
        with node.session() as session:
            assert session.call("CONFIG", "SET", "cluster-announce-hostname", "node.invalid") == b"OK"
    _until(lambda: all(_slots(node).count(b"node.invalid") == 3 for node in cluster.nodes))
    found = discover(cluster.endpoint, "source", AddressMap.of([parse_pair("NODE.invalid=127.0.0.1")]))
    assert {shard.host for shard in found.shards} == {"node.invalid"}
    assert {found.endpoint(shard.id) for shard in found.shards} == {node.endpoint for node in cluster.nodes}


def test_nodes_that_leave_their_host_to_the_client(start_cluster: Callable[..., Cluster]) -> None:
    cluster = start_cluster(REDIS_7, cluster_preferred_endpoint_type="unknown-endpoint")
    found = discover(Endpoint(host="localhost", port=cluster.nodes[0].port), "source")
    assert {shard.host for shard in found.shards} == {"localhost"}


# --- Slots on the move


@pytest.mark.parametrize("name", [REDIS_6, REDIS_7, REDIS_8, VALKEY_9])
def test_a_slot_that_migrates_is_open_and_then_moved(clusters: Callable[[str], Cluster], name: str) -> None:
    cluster = clusters(name)
    ledger = SlotLedger(discover(cluster.endpoint, "source").topology)
    slot = min(cluster.slots_of(0))
    cluster.move_slot(slot, 1, finish=False)
    opened = discover(cluster.nodes[2].endpoint, "source").topology
    assert opened.open_slots == {slot}
    ledger.observe(opened)
    assert ledger.ready(opened).get(cluster.node_id(1), frozenset()).isdisjoint({slot})
    cluster.finish_slot(slot)
    moved = discover(cluster.nodes[2].endpoint, "source").topology
    owner = moved.owner(slot)
    assert owner is not None
    assert (owner.id, moved.open_slots) == (cluster.node_id(1), frozenset())
    ledger.observe(moved)
    assert slot in ledger.ready(moved)[cluster.node_id(1)]
    cluster.move_slot(slot, 0)


@pytest.mark.parametrize("name", [REDIS_6, REDIS_7, REDIS_8, VALKEY_9])
def test_a_slot_that_went_away_and_came_back_is_noticed(
    clusters: Callable[[str], Cluster], name: str
) -> None:
    cluster = clusters(name)
    ledger = SlotLedger(discover(cluster.endpoint, "source").topology)
    slot = max(cluster.slots_of(1))
    cluster.move_slot(slot, 2)
    cluster.move_slot(slot, 1)
    now = discover(cluster.endpoint, "source").topology
    ledger.observe(now)
    assert slot in ledger.ready(now)[cluster.node_id(1)]


def test_a_new_primary_with_its_first_slot(start_cluster: Callable[..., Cluster]) -> None:
    cluster = start_cluster(VALKEY_9)
    cluster.add_node()
    before = discover(cluster.endpoint, "source").topology
    assert [shard.id for shard in before.idle] == [cluster.node_id(3)]
    ledger = SlotLedger(before)
    cluster.move_slot(0, 3)
    now = discover(cluster.endpoint, "source").topology
    ledger.observe(now)
    assert ledger.ready(now)[cluster.node_id(3)] == {0}
    assert json.loads(json.dumps(ledger.as_dict())) == ledger.as_dict()


# --- Nodes that are away


def test_a_replica_is_as_good_and_its_promotion_is_seen(start_cluster: Callable[..., Cluster]) -> None:
    cluster = start_cluster(VALKEY_9, replicas=1)
    found = discover(cluster.nodes[3].endpoint, "source")
    assert ports(found).keys() == {node.port for node in cluster.nodes[:3]}
    ledger = SlotLedger(found.topology)
    promoted = cluster.fail_over(0)
    now = discover(cluster.nodes[1].endpoint, "source")
    assert ports(now).keys() == {promoted.port, *(node.port for node in cluster.nodes[1:3])}
    ledger.observe(now.topology)
    new_id = ports(now)[promoted.port]
    assert ledger.ready(now.topology)[new_id] == next(s.slots for s in now.shards if s.id == new_id)


def test_a_primary_that_is_away_is_named(start_cluster: Callable[..., Cluster]) -> None:
    cluster = start_cluster(REDIS_7)
    cluster.nodes[2].kill()
    began_s = time.monotonic()
    with pytest.raises(ServerAway, match=f"announces 127.0.0.1:{cluster.nodes[2].port}"):
        discover(cluster.endpoint, "source")
    assert time.monotonic() - began_s < 10


def test_slots_without_owner(start_server: StartServer) -> None:
    node = start_server(REDIS_7, cluster_enabled="yes")
    with pytest.raises(ServerAway, match="Nobody owns the slots 0-16383"):
        discover(node.endpoint, "source")
    with node.session() as session:
        session.call("CLUSTER", "ADDSLOTSRANGE", 0, 99, 101, 16_383)
    with pytest.raises(ServerAway, match="Nobody owns the slots 100 "):
        discover(node.endpoint, "source")
    with node.session() as session:
        session.call("CLUSTER", "ADDSLOTS", 100)
    (shard,) = discover(node.endpoint, "source").shards
    # A node that met no other knows no address of its own.
    assert (shard.slots, str(shard)) == (ALL_SLOTS, f"127.0.0.1:{node.port}")


def _slots(node: Server) -> list[object]:
    """Hosts and ports of the primaries, as the node gives them to clients."""
    with node.session() as session:
        reply = session.call("CLUSTER", "SLOTS")
    assert isinstance(reply, list)
    return [
        value
        for part in reply
        if isinstance(part, list) and isinstance(part[2], list)
        for value in part[2][:2]
    ]


def _announced(node: Server) -> set[object]:
    return set(_slots(node)[1::2])


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
