"""What the check says of clusters, without servers: facts in, findings out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from keyferry.copy import gather
from keyferry.copy.facts import (
    CheckRequest,
    Facts,
    ForeignKeys,
    MemoryFacts,
    NodeFacts,
    ReplicationFacts,
    Right,
    ServerFacts,
    SourceFacts,
    TargetFacts,
)
from keyferry.copy.finding import Finding
from keyferry.copy.identify import ClockOffset
from keyferry.copy.info import Keyspace
from keyferry.copy.preflight import judge
from keyferry.model.identity import Family, ServerIdentity
from keyferry.model.selection import Selection

MB = 1 << 20
OLD = ServerIdentity(Family.REDIS, (7, 0, 15), 10, "a" * 40)
NEW = ServerIdentity(Family.REDIS, (8, 2, 3), 12, "b" * 40)
PLACES = ("n:1", "n:2", "n:3")


def node(place: str, **changed: Any) -> NodeFacts:
    healthy = NodeFacts(
        place=place,
        user="default",
        identity=replace(OLD, run_id=place * 10),
        slots=5461,
        memory=MemoryFacts(2 * MB, MB, 0, 1000 * MB, "noeviction", 0),
        replication=ReplicationFacts("master"),
        keyspace={0: Keyspace(100, 1)},
        clock=ClockOffset(0, 0.1),
        rights=(Right("dump", "allowed"),),
    )
    return replace(healthy, **changed)


def cluster(side: Any, *nodes: NodeFacts, **changed: Any) -> ServerFacts:
    nodes = nodes or tuple(node(f"{side}-{place}") for place in PLACES)
    gathered = ServerFacts(
        side=side,
        address=f"redis://{nodes[0].place}",
        user="default",
        identity=gather.identity(side, nodes),
        nodes=nodes,
        cluster=True,
        memory=gather.memory(nodes),
        replication=gather.replication(nodes),
        keyspace=gather.keyspaces([one.keyspace for one in nodes]),
        rights=gather.rights(nodes),
    )
    return replace(gathered, **changed)


def found(
    source: ServerFacts | None = None,
    target: ServerFacts | None = None,
    request: CheckRequest | None = None,
    foreign: int = 0,
    selected: tuple[int, ...] = (0,),
) -> list[Finding]:
    facts = Facts(
        SourceFacts(source or cluster("source"), selected=selected),
        TargetFacts(target or cluster("target"), foreign=(ForeignKeys(0, foreign),)),
        ClockOffset(0, 0.2),
    )
    return judge(facts, request or CheckRequest(Selection(databases=selected)))


def of(topic: str, findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.topic == topic]


def test_healthy_clusters() -> None:
    findings = found()
    assert not [finding for finding in findings if finding.level == "stop"]
    assert [finding.sentence for finding in of("cluster", findings)] == [
        "The source is a cluster of 3 primaries; every slot has an owner.",
        "The target is a cluster of 3 primaries; every slot has an owner.",
    ]
    assert "leads to a cluster" in of("source", findings)[0].sentence
    assert of("roles", findings)[0].sentence == "All servers are masters."
    assert not of("source nodes", findings) + of("target nodes", findings)


def test_slots_on_the_move_are_named() -> None:
    source = cluster("source", open_slots=frozenset((5, 6, 7, 99)))
    (finding, _) = of("cluster", found(source))
    assert (finding.level, "half migrated: 5-7,99." in finding.sentence) == ("warning", True)
    assert "redis-cli --cluster fix" in finding.advice
    many = cluster("source", open_slots=frozenset(range(0, 1000, 2)))
    assert "500 slots" in of("cluster", found(many))[0].sentence


def test_what_could_not_be_looked_at() -> None:
    blind = cluster("source", sees_migrations=False, nodes_left_out=20)
    left_out, migrating, slots = of("cluster", found(blind))[:3]
    assert "20 of the source's 23 primaries" in left_out.sentence
    assert "CLUSTER NODES is refused" in migrating.sentence
    assert slots.level == "ok"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"identity": NEW}, "the same version: Redis 7.0.15, but n:2 Redis 8.2.3."),
        ({"replication": ReplicationFacts("replica")}, "the same role: master, but n:2 replica."),
        (
            {"memory": MemoryFacts(MB, MB, 5 * MB, MB, "noeviction", 0)},
            "the same maxmemory: no limit, but n:2 5.2 MB.",
        ),
        (
            {"memory": MemoryFacts(MB, MB, 0, MB, "allkeys-lru", 0)},
            "the same eviction policy: noeviction, but n:2 allkeys-lru.",
        ),
    ],
)
def test_nodes_that_differ_are_named(changed: dict[str, Any], sentence: str) -> None:
    source = cluster("source", node("n:1"), node("n:2", **changed), node("n:3"))
    (finding,) = of("source nodes", found(source))
    assert (finding.level, finding.sentence.endswith(sentence)) == ("warning", True)


def test_versions_that_differ_count_as_what_is_harder() -> None:
    nodes = node("n:1"), node("n:2", identity=NEW)
    assert gather.identity("source", nodes) == NEW
    assert gather.identity("target", nodes) == nodes[0].identity


def test_one_process_on_both_sides() -> None:
    shared = node("n:2")
    findings = found(cluster("source", node("n:1"), shared), cluster("target", shared, node("n:3")))
    (finding,) = of("same server", findings)
    assert (finding.level, "of one cluster" in finding.sentence) == ("stop", True)


def test_rights_that_some_nodes_give_are_named_with_the_others() -> None:
    lacking = node("n:2", rights=(Right("dump", "command", "NOPERM"),))
    findings = found(cluster("source", node("n:1"), lacking))
    (finding,) = of("source rights", findings)
    assert finding.sentence == "User default may not run DUMP on the source's nodes n:2."
    assert finding.advice == "Run on every node of the source: ACL SETUSER default +dump"
    everywhere = found(cluster("source", lacking, replace(lacking, place="n:3")))
    assert of("source rights", everywhere)[0].sentence == "User default may not run DUMP on the source."
    renamed = node("n:2", rights=(Right("dump", "missing", "ERR unknown command"),))
    assert (
        of("source rights", found(cluster("source", node("n:1"), renamed)))[0].sentence
        == "The source's node n:2 does not know DUMP: renamed or disabled."
    )


def test_clocks_within_a_cluster() -> None:
    source = cluster("source", node("n:1"), node("n:2", clock=ClockOffset(-2000, 1)), node("n:3"))
    finding = of("clocks", found(source))[-1]
    assert finding.level == "warning"
    assert "differ by 1,999 ms (n:1 and n:2)" in finding.sentence
    near = cluster("source", node("n:1"), node("n:2", clock=ClockOffset(900, 1)), node("n:3", clock=None))
    assert {finding.level for finding in of("clocks", found(near))} == {"ok"}


def test_the_memory_of_a_cluster_is_the_sum() -> None:
    one, other = MemoryFacts(1, 2, 3, 4, "noeviction", 5), MemoryFacts(10, 20, 30, 40, "allkeys-lru", 50)
    nodes = node("a:1", memory=one), node("b:1", memory=other)
    assert gather.memory(nodes) == MemoryFacts(11, 22, 33, 44, "allkeys-lru", 55)
    beside = node("a:1", memory=one), node("a:2", memory=replace(one, maxmemory=0))
    assert gather.memory(beside) == MemoryFacts(2, 4, 0, 4, "noeviction", 10)
    blind = node("a:1", memory=MemoryFacts()), node("b:1", memory=other)
    assert gather.memory(blind) == MemoryFacts(policy="allkeys-lru")


def test_a_node_that_is_too_small_for_its_slots() -> None:
    small = node("n:2", memory=MemoryFacts(2 * MB, MB, 2 * MB + 1000, 1000 * MB, "noeviction", 0))
    large = node("n:1", memory=MemoryFacts(2 * MB, MB, 900 * MB, 1000 * MB, "noeviction", 0))
    (finding,) = [f for f in of("memory", found(target=cluster("target", large, small))) if f.level != "ok"]
    assert (finding.level, "n:2 (about 1.0 MB of keys, 1.0 KB free)" in finding.sentence) == ("stop", True)
    with_keys = found(
        target=cluster("target", large, small), request=CheckRequest(on_conflict="replace"), foreign=7
    )
    assert {f.level for f in of("memory", with_keys)} == {"ok", "warning"}


def test_keys_and_calls_are_summed() -> None:
    spaces = [{0: Keyspace(1, 1)}, {0: Keyspace(2, 0), 3: Keyspace(5, 5)}]
    assert gather.keyspaces(spaces) == {0: Keyspace(3, 1), 3: Keyspace(5, 5)}
    assert gather.keyspaces([*spaces, None]) is None
    assert gather.calls([{"get": 1}, {"get": 2, "set": 1}]) == {"get": 3, "set": 1}
    assert gather.calls([{"get": 1}, None]) is None


@pytest.mark.parametrize(("selected", "mapped"), [((0, 3), {}), ((3,), {}), ((0,), {0: 1})])
def test_databases_that_a_cluster_has_not(selected: tuple[int, ...], mapped: dict[int, int]) -> None:
    request = CheckRequest(Selection(databases=selected, database_map=mapped))
    source = cluster("source", cluster=False, keyspace={0: Keyspace(1, 0), 3: Keyspace(1, 0)})
    (finding,) = [f for f in of("databases", found(source, None, request, 0, selected)) if f.level == "stop"]
    assert "cannot go into" in finding.sentence
    assert "--db-map" in finding.advice
