"""The check against real clusters, on either side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from keyferry.copy.check import CheckReport, run_check
from keyferry.copy.facts import CheckRequest
from keyferry.copy.finding import Finding
from keyferry.model.address import Endpoint
from keyferry.model.announced import AddressMap, parse_pair
from keyferry.model.errors import ExitCode, ServerAway
from keyferry.model.selection import Selection
from keyferry.testing.cluster import Cluster
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument

Flushed = Callable[..., Server]
Clusters = Callable[..., Cluster]
REDIS_7, VALKEY_9 = "redis-7.0", "valkey-9.1"
USER = "ACL SETUSER u reset on >p ~* +@all"


def check(source: Deployment, target: Deployment, request: CheckRequest | None = None) -> CheckReport:
    return run_check(source.endpoint, target.endpoint, request or CheckRequest())


def about(report: CheckReport, topic: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.topic == topic]


def filled(deployment: Deployment, keys: int) -> None:
    with deployment.session() as session:
        replies = session.pipeline([("SET", f"key:{i}", "v" * 100) for i in range(keys)])
    assert replies == [b"OK"] * keys


def on(servers: list[Server], *command: Argument) -> None:
    for server in servers:
        with server.session() as session:
            assert session.call(*command) == b"OK"


@pytest.fixture
def with_user(cluster: Clusters) -> Iterator[Callable[[Cluster, str], Endpoint]]:
    """A user with everything but what the rule takes, on one node, and everything on the others."""
    touched: list[Cluster] = []

    def make(one: Cluster, rule: str, node: int = 1) -> Endpoint:
        touched.append(one)
        on(one.nodes, *USER.split())
        on([one.nodes[node]], "ACL", "SETUSER", "u", rule)
        return Endpoint(host="127.0.0.1", port=one.nodes[0].port, username="u", password="p")

    yield make
    for one in touched:
        for node in one.nodes:
            with node.session() as session:
                session.call("ACL", "DELUSER", "u")


def test_pairs_with_a_cluster(deployment_pair: tuple[Deployment, Deployment]) -> None:
    source, target = deployment_pair
    filled(source, 300)
    report = check(source, target)
    assert report.exit_code == ExitCode.DONE, report.stops
    facts = report.facts
    for deployment, server in ((source, facts.source.server), (target, facts.target.server)):
        assert [node.place for node in server.nodes] == sorted(
            f"127.0.0.1:{node.port}" for node in deployment.primaries
        )
        assert server.cluster is (len(deployment.nodes) > 1)
        # Of values that the node itself made, which is not what the table of versions says of every build.
        versions = {node.identity.rdb_version for node in server.nodes}
        assert versions == {server.identity.rdb_version}
        assert {right.state for right in server.rights} == {"allowed"}
    assert report.keys == 300
    assert 40 <= len(facts.source.sample.keys) <= 300
    assert facts.clock is not None
    assert abs(facts.clock.offset_ms) <= facts.clock.uncertainty_ms + 1
    tokens = {right.token for right in facts.source.server.rights}
    assert "memory|usage" in tokens
    assert ("asking" in tokens) is facts.source.server.cluster
    with target.session() as session:
        assert session.call("DBSIZE") == 0


def test_the_report_as_json(cluster: Clusters, flushed: Flushed) -> None:
    found = check(cluster(REDIS_7), flushed(VALKEY_9)).as_dict()
    assert (found["source"]["cluster"], found["source"]["primaries"]) == (True, 3)
    assert (found["target"]["cluster"], found["target"]["primaries"]) == (False, 1)


def test_foreign_keys_of_all_nodes_count(cluster: Clusters, flushed: Flushed) -> None:
    source, target = flushed(REDIS_7), cluster(VALKEY_9)
    filled(target, 90)
    (finding,) = check(source, target).stops
    assert "already holds 90 keys" in finding.sentence


def test_the_same_cluster_by_another_node(cluster: Clusters) -> None:
    one = cluster(REDIS_7)
    report = run_check(one.nodes[0].endpoint, one.nodes[2].endpoint, CheckRequest())
    assert "of one cluster" in about(report, "same server")[0].sentence


def test_slots_on_the_move(cluster: Clusters, flushed: Flushed) -> None:
    source = cluster(REDIS_7)
    filled(source, 300)
    slot = min(source.slots_of(0))
    source.move_slot(slot, 1, finish=False)
    report = check(source, flushed(VALKEY_9))
    source.finish_slot(slot)
    assert report.exit_code == ExitCode.DONE
    assert f"half migrated: {slot}." in about(report, "cluster")[0].sentence


def test_databases(cluster: Clusters, flushed: Flushed) -> None:
    source, target = flushed(REDIS_7), cluster(VALKEY_9)
    for db in (0, 3):
        with source.session(db) as session:
            session.call("SET", "k", "v")
    several = check(source, target, CheckRequest(Selection(databases=None)))
    assert [finding.topic for finding in several.stops] == ["databases"]
    elsewhere = check(source, target, CheckRequest(Selection(databases=(3,))))
    assert "--db-map 3:0" in elsewhere.stops[0].advice
    mapped = check(source, target, CheckRequest(Selection(databases=(3,), database_map={3: 0})))
    assert not mapped.stops


def test_a_right_that_one_node_withholds(
    cluster: Clusters, flushed: Flushed, with_user: Callable[..., Endpoint]
) -> None:
    source, target = cluster(VALKEY_9), cluster(REDIS_7)
    filled(source, 10)
    report = run_check(with_user(source, "-dump"), flushed(REDIS_7).endpoint, CheckRequest())
    (finding,) = about(report, "source rights")
    assert (
        finding.sentence == f"User u may not run DUMP on the source's nodes 127.0.0.1:{source.nodes[1].port}."
    )
    report = run_check(flushed(REDIS_7).endpoint, with_user(target, "-restore"), CheckRequest())
    assert f"RESTORE on the target's nodes 127.0.0.1:{target.nodes[1].port}" in report.stops[0].sentence


def test_without_the_list_of_nodes(
    cluster: Clusters, flushed: Flushed, with_user: Callable[..., Endpoint]
) -> None:
    endpoint = with_user(cluster(REDIS_7), "-cluster|nodes")
    report = run_check(endpoint, flushed(VALKEY_9).endpoint, CheckRequest())
    assert "which slots of the source are being migrated" in about(report, "cluster")[0].sentence
    assert report.exit_code == ExitCode.DONE


def test_a_full_node_of_the_target(cluster: Clusters, flushed: Flushed) -> None:
    source, target = flushed(REDIS_7), cluster(REDIS_7)
    filled(source, 3000)
    full = target.nodes[1]
    on([full], "CONFIG", "SET", "maxmemory", "1mb")
    try:
        report = check(source, target)
    finally:
        on([full], "CONFIG", "SET", "maxmemory", "0")
    assert {finding.topic for finding in report.stops} == {"memory", "target writes"}
    assert f"127.0.0.1:{full.port} (about" in next(f.sentence for f in report.stops if f.topic == "memory")
    assert "maxmemory" in about(report, "target nodes")[0].sentence


def test_replicas_are_as_good_as_primaries(start_cluster: Clusters, flushed: Flushed) -> None:
    source = start_cluster(VALKEY_9, replicas=1)
    report = run_check(source.nodes[4].endpoint, flushed(VALKEY_9).endpoint, CheckRequest())
    assert about(report, "roles")[0].level == "ok"
    source.nodes[1].kill()
    with pytest.raises(ServerAway, match="announces"):
        run_check(source.nodes[0].endpoint, flushed(VALKEY_9).endpoint, CheckRequest())


def test_a_map_is_followed(cluster: Clusters, flushed: Flushed) -> None:
    nowhere = AddressMap.of([parse_pair("127.0.0.1=127.0.0.1:1")])
    one, other = cluster(REDIS_7), flushed(REDIS_7)
    with pytest.raises(ServerAway, match="--source-map"):
        check(one, other, CheckRequest(source_map=nowhere))
    with pytest.raises(ServerAway, match="--target-map"):
        check(other, one, CheckRequest(target_map=nowhere))
