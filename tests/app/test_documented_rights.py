"""The ACL rules on the page about addresses are enough, on every pair of servers, for every way of carrying."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import keyferry

from keyferry.capture.ledger_feed import RIGHTS
from keyferry.capture.ledger_format import ledger_keys, member
from keyferry.testing.cases import build, cases_for
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server

PAGE = Path(__file__).parents[2] / "docs" / "addresses-and-passwords.md"
RULE = re.compile(r"^    ACL SETUSER (ferry-\w+) (.*)$", re.MULTILINE)
FEED_RULE = re.compile(r"^    (\+(?:p)?subscribe .*)$", re.MULTILINE)
LEDGER_RULE = re.compile(r"^    (\+spop .*)$", re.MULTILINE)
CLUSTER_RULE = re.compile(r"^    (\+asking .*)$", re.MULTILINE)


@pytest.fixture
def urls(server_pair: tuple[Server, Server]) -> Iterator[list[str]]:
    """Both addresses, with users that have the documented rights for as long as the test lasts."""
    rules = dict(RULE.findall(PAGE.read_text(encoding="utf-8")))
    for side, server in zip(("source", "target"), server_pair, strict=True):
        with server.session() as session:
            assert session.call("ACL", "SETUSER", "ferry", *rules[f"ferry-{side}"].split()) == b"OK"
    yield [server.url.replace("//", "//ferry:password@") for server in server_pair]
    for server in server_pair:
        with server.session() as session:
            session.call("ACL", "DELUSER", "ferry")


def test_a_copy_needs_no_more(server_pair: tuple[Server, Server], urls: list[str], tmp_path: Path) -> None:
    source, target = server_pair
    with source.session() as session:
        cases = cases_for(source.binary.version, source.binary.family)
        build(session, cases)
    checked = keyferry("check", *urls, cwd=tmp_path)
    assert checked.status == 0, checked.out
    ended = keyferry("copy", *urls, "--drop-field-expiry", cwd=tmp_path)
    assert ended.status == 0, ended.out + ended.err
    with target.session() as session:
        assert session.call("DBSIZE") == len(cases)


@pytest.fixture
def twins(server: Server, flushed: Callable[..., Server]) -> Iterator[list[Server]]:
    """Two servers of one make with the same keys, and users that have the documented rights, but no channels."""
    pair = [server, flushed(server.binary.name, 1)]
    rules = dict(RULE.findall(PAGE.read_text(encoding="utf-8")))
    for side, one in zip(("source", "target"), pair, strict=True):
        with one.session() as session:
            rule = [*rules[f"ferry-{side}"].split(), "resetchannels"]
            assert session.call("ACL", "SETUSER", "ferry", *rule) == b"OK"
            build(session, cases_for(one.binary.version, one.binary.family))
    yield pair
    for one in pair:
        with one.session() as session:
            session.call("ACL", "DELUSER", "ferry")


def as_ferry(servers: list[Server]) -> list[str]:
    return [server.url.replace("//", "//ferry:password@") for server in servers]


def allow(server: Server, rule: str) -> None:
    with server.session() as session:
        assert session.call("ACL", "SETUSER", "ferry", *rule.split()) == b"OK"


def test_a_sync_needs_those_of_its_feed(twins: list[Server], tmp_path: Path) -> None:
    tracking, notifications = FEED_RULE.findall(PAGE.read_text(encoding="utf-8"))
    arguments = ["sync", *as_ferry(twins), "--on-conflict", "replace", "--until-synced"]
    refused = keyferry(*arguments, "--feed", "tracking", cwd=tmp_path)
    assert refused.status == 4
    assert "+client|tracking" in refused.err
    for server in twins:
        allow(server, tracking)
    ended = keyferry(*arguments, cwd=tmp_path)
    assert ended.status == 0, ended.out + ended.err
    assert "followed by tracking" in ended.err
    assert "not be noticed" not in ended.err
    allow(twins[0], f"resetchannels {notifications}")
    ended = keyferry(*arguments, "--feed", "notifications", "--enable-notifications", cwd=tmp_path)
    assert ended.status == 0, ended.out + ended.err
    assert "followed by notifications" in ended.err


def test_a_comparison_only_reads(twins: list[Server], tmp_path: Path) -> None:
    rules = dict(RULE.findall(PAGE.read_text(encoding="utf-8")))
    allow(twins[1], f"reset {rules['ferry-source']}")
    # Pending entries were delivered at other times.
    ended = keyferry("verify", *as_ferry(twins), "--exclude", "*pending*", cwd=tmp_path)
    assert ended.status == 0, ended.out + ended.err


def test_what_clients_report_needs_its_own_rule(twins: list[Server], tmp_path: Path) -> None:
    source = twins[0]
    (rule,) = LEDGER_RULE.findall(PAGE.read_text(encoding="utf-8"))
    assert {*rule.split(), "~keyferry:*"} == set(RIGHTS.split())
    keys = ledger_keys("orders")
    with source.session() as session:
        session.call("SADD", keys.dirty, member(0, b"reported"))
        session.call("SET", "reported", "1")
    arguments = [
        "sync",
        *as_ferry(twins),
        "--name",
        "orders",
        "--feed",
        "writers",
        "--on-conflict",
        "replace",
    ]
    refused = keyferry(*arguments, cwd=tmp_path)
    assert refused.status == 3
    assert rule in refused.err
    for server in twins:
        allow(server, rule)
    ended = keyferry(*arguments, "--until-synced", cwd=tmp_path)
    assert ended.status == 0, ended.out + ended.err
    with source.session() as session:
        assert session.call("EXISTS", keys.dirty) == 0


@pytest.fixture
def clusters(server: Server, cluster: Callable[..., Cluster]) -> Iterator[list[Cluster]]:
    """Two clusters of one make, with users that have the documented rights on every node."""
    pair = [cluster(server.binary.name, shards) for shards in (3, 2)]
    page = PAGE.read_text(encoding="utf-8")
    rules, (more,) = dict(RULE.findall(page)), CLUSTER_RULE.findall(page)
    for side, one in zip(("source", "target"), pair, strict=True):
        for node in one.nodes:
            with node.session() as session:
                rule = [*rules[f"ferry-{side}"].split(), *more.split()]
                assert session.call("ACL", "SETUSER", "ferry", *rule) == b"OK"
    yield pair
    for one in pair:
        for node in one.nodes:
            with node.session() as session:
                session.call("ACL", "DELUSER", "ferry")


def test_a_copy_between_clusters_needs_no_more(clusters: list[Cluster], tmp_path: Path) -> None:
    source, target = clusters
    with source.session() as session:
        cases = cases_for(source.binary.version, source.binary.family)
        build(session, cases)
    urls = [one.url.replace("//", "//ferry:password@") for one in clusters]
    checked = keyferry("check", *urls, cwd=tmp_path)
    assert checked.status == 0, checked.out
    assert "being migrated" not in checked.out
    ended = keyferry("copy", *urls, cwd=tmp_path)
    assert ended.status == 0, ended.out + ended.err
    with target.session() as session:
        assert session.call("DBSIZE") == len(cases)
