"""Who writes on a server and is no registered writer, by CLIENT LIST of every server."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from plain_application import APP, OURS, apart, reaching

from keyferry.cutover.plain import PlainClient, plain_clients
from keyferry.model.errors import ServerError
from keyferry.model.writers import WriterEntry, WriterFacts
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument
from keyferry.wire.session import Session

COUNTS: list[tuple[Argument, ...]] = [
    ("SET", "a", 1),
    ("EVAL", "return 1", 0),
    ("MULTI",),
    ("XGROUP", "CREATE", "st", "g", "$", "MKSTREAM"),
    ("SORT", "a"),
]
READS: list[tuple[Argument, ...]] = [("GET", "a")]
DOES_NOT: list[tuple[Argument, ...]] = [
    ("PING",),
    ("CLUSTER", "INFO"),
    ("XINFO", "HELP"),
    ("SUBSCRIBE", "c"),
    ("PUBLISH", "c", "x"),
    ("CONFIG", "GET", "maxmemory"),
]


def entry(*names: str) -> WriterEntry:
    return WriterEntry(WriterFacts("host", 1, "shop"), lease_ms=1000, names=names)


def named(found: list[PlainClient]) -> set[str]:
    return {one.name for one in found}


def test_by_the_last_command(server: Server) -> None:
    sessions = []
    for number, command in enumerate([*COUNTS, *READS, *DOES_NOT]):
        session = server.session()
        sessions.append(session)
        session.pipeline([("CLIENT", "SETNAME", f"shop-{number}"), command])
    with reaching(server.endpoint) as reach:
        found = plain_clients(reach, {})
    reading = [one for one in found if one.only_read]
    assert named(reading) == {f"shop-{len(COUNTS)}"}
    assert named(found) - named(reading) == {f"shop-{number}" for number in range(len(COUNTS))}
    assert {one.user for one in found} == {"default"} and all(one.place and one.addr for one in found)
    assert f"{found[0]}".startswith("127.0.0.1:")
    for session in sessions:
        session.close()


def test_writers_that_are_registered_and_ours_do_not_count(server: Server) -> None:
    with apart(server) as (_, app), reaching(server.endpoint) as reach:
        sessions = [Session(app, "source") for _ in range(3)]
        for session, name in zip(sessions, ("keyferry-app", "checkout", "other"), strict=True):
            session.pipeline([("CLIENT", "SETNAME", name), ("SET", "a", 1)])
        (other,) = plain_clients(reach, {"w1": entry("checkout", "keyferry-app"), "w2": entry()})
        assert (other.name, other.user, other.cmd) == ("other", APP, "SET")
        assert named(plain_clients(reach, {})) == {"checkout", "other"}
        for session in sessions:
            session.close()


def test_a_connection_that_has_asked_nothing_counts(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)), reaching(server.endpoint) as reach:
        (silent,) = plain_clients(reach, {})
        assert (silent.name, silent.cmd) == ("", "NULL")


def test_replicas_do_not_count(start_server: Callable[..., Server]) -> None:
    primary = start_server("redis-7.0", repl_diskless_sync_delay="0")
    replica = start_server("redis-7.0")
    with replica.session() as session, primary.session() as asking, reaching(primary.endpoint) as reach:
        session.call("REPLICAOF", "127.0.0.1", primary.port)
        assert asking.call("SET", "a", 1) == b"OK"
        assert asking.call("WAIT", 1, 10_000) == 1
        assert plain_clients(reach, {}) == []


def test_every_node_of_a_cluster_is_asked(cluster: Callable[..., Cluster]) -> None:
    three = cluster("valkey-9.1", 3)
    sessions = [node.session() for node in three.nodes]
    for number, session in enumerate(sessions):
        session.pipeline([("CLIENT", "SETNAME", f"shop-{number}"), ("FLUSHALL",)])
    with reaching(three.nodes[0].endpoint) as reach:
        found = plain_clients(reach, {})
    assert named(found) == {"shop-0", "shop-1", "shop-2"}
    assert len({one.place for one in found}) == 3
    for session in sessions:
        session.close()


def test_who_may_not_see_the_clients_hears_which_right_is_missing(server: Server) -> None:
    with apart(server) as (ours, _), server.session() as session:
        session.call("ACL", "SETUSER", OURS, "-client")
        with (
            reaching(ours) as reach,
            pytest.raises(ServerError, match="refuses CLIENT LIST: NOPERM") as caught,
        ):
            plain_clients(reach, {})
        assert caught.value.hint == "The user needs +client|list."
