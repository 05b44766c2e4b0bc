"""The ACL rules on the page about addresses are enough, on every pair of servers, for every way of carrying."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import keyferry

from keyferry.testing.cases import build, cases_for
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server

PAGE = Path(__file__).parents[2] / "docs" / "addresses-and-passwords.md"
RULE = re.compile(r"^    ACL SETUSER (ferry-\w+) (.*)$", re.MULTILINE)
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
