"""The pause on every server: none while it is asked about, all or none, over by itself, by others, by a new start."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from plain_application import OURS, apart, reaching, until

from keyferry.copy.client_list import parse_client_list
from keyferry.cutover.pausing import LENGTH_MS_MAX, MARGIN_MS, Pause
from keyferry.cutover.reach import Reach
from keyferry.model.errors import ServerAway, ServerError
from keyferry.model.phases import Side
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server
from keyferry.wire.session import Session

StartServer = Callable[..., Server]


class Write(threading.Thread):
    """One write."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server

    def run(self) -> None:
        with self._server.session() as session:
            assert session.call("INCR", "a") == 1


def held(server: Server) -> Write:
    """A write that the server lets wait."""
    write = Write(server)
    write.start()

    def waits() -> bool:
        with server.session() as session:
            listed = session.call("CLIENT", "LIST")
        assert isinstance(listed, bytes)
        return any("b" in line.flags for line in parse_client_list(listed))

    until(waits, "the write does not wait")
    return write


def test_writes_wait_and_reads_go_on(server: Server) -> None:
    with reaching(server.endpoint) as reach, server.session() as session:
        pause = Pause(reach)
        assert pause.possible() == ""
        assert pause.lapsed() == "Writes on the source are not paused." and not pause.still_on()
        pause.begin(5000)
        write = held(server)
        assert session.call("GET", "a") is None
        assert pause.still_on()
        pause.end()
        write.join(10)
        assert session.call("GET", "a") == b"1" and not pause.still_on()
        pause.end()


def test_asking_whether_it_can_be_done_stops_nobody(server: Server) -> None:
    with reaching(server.endpoint) as reach, server.session() as session:
        assert Pause(reach).possible() == ""
        began_s = time.monotonic()
        assert session.call("SET", "a", 1) == b"OK"
        assert time.monotonic() - began_s < 0.5


def test_it_ends_by_itself_and_that_is_known_before(server: Server) -> None:
    with reaching(server.endpoint) as reach, server.session() as session:
        pause = Pause(reach)
        pause.begin(400)
        write = held(server)
        seen, looks = session.call("GET", "a"), 0
        while pause.still_on():
            assert seen is None, "said to be on, and a write went through before"
            seen, looks = session.call("GET", "a"), looks + 1
        assert looks and "took too long" in pause.lapsed()
        write.join(10)
        assert session.call("GET", "a") == b"1"


def test_a_new_start_has_no_pause(start_server: StartServer, server: Server) -> None:
    own = start_server(server.binary.name)
    with reaching(own.endpoint) as reach:
        pause = Pause(reach)
        pause.begin(5000)
        own.restart(keep_data=False)
        assert not pause.still_on()
        # Its connection is new as well now.
        assert "was started anew under the pause" in pause.lapsed()
        pause.end()


def test_a_server_that_became_a_replica_has_no_pause(start_server: StartServer, server: Server) -> None:
    own = start_server(server.binary.name)
    with reaching(own.endpoint) as reach, own.session() as session:
        pause = Pause(reach)
        pause.begin(5000)
        session.call("REPLICAOF", "127.0.0.1", 1)
        assert "is no primary any more" in pause.lapsed()
        pause.end()
        assert "is a replica" in pause.possible()


def test_valkey_tells_that_somebody_else_ended_it(flushed: Callable[..., Server]) -> None:
    server = flushed("valkey-9.1")
    with reaching(server.endpoint) as reach, server.session() as session:
        pause = Pause(reach)
        pause.begin(5000)
        assert pause.still_on()
        session.call("CLIENT", "UNPAUSE")
        assert "ended by somebody else" in pause.lapsed()


@pytest.mark.parametrize("right", ["client|pause", "time", "info"])
def test_what_is_lacking_is_said(server: Server, right: str) -> None:
    rule = "-client" if server.binary.name == "redis-6.2" and right.startswith("client") else f"-{right}"
    with apart(server) as (ours, _), server.session() as session:
        session.call("ACL", "SETUSER", OURS, rule)
        with reaching(ours) as reach:
            pause = Pause(reach)
            assert pause.possible().startswith("The source does not ")
            if right != "info":
                with pytest.raises(ServerError):
                    pause.begin(1000)
                assert not pause.still_on()
        assert session.call("SET", "a", 1) == b"OK", "writes are not held"


@pytest.mark.parametrize("length_ms", [0, MARGIN_MS, LENGTH_MS_MAX + 1])
def test_a_length_that_makes_no_sense(flushed: Callable[..., Server], length_ms: int) -> None:
    with reaching(flushed("redis-7.0").endpoint) as reach, pytest.raises(ValueError, match="a pause of"):
        Pause(reach).begin(length_ms)


def test_all_nodes_of_a_cluster_or_none(start_cluster: Callable[..., Cluster]) -> None:
    cluster = start_cluster("valkey-9.1", 3)

    def paused() -> list[bool]:
        found = []
        for node in cluster.nodes:
            with node.session() as session:
                info = session.call("INFO", "clients")
                assert isinstance(info, bytes)
                found.append(b"paused_actions:write" in info)
        return found

    with apart(cluster) as (ours, _), Reach(Side.SOURCE, ours, timeout_s=1.0) as reach:
        pause = Pause(reach)
        pause.begin(20_000)
        assert paused() == [True] * 3 and pause.still_on()
        with cluster.nodes[1].session() as session:
            session.call("CLIENT", "UNPAUSE")
        assert not pause.still_on()
        pause.end()
        assert paused() == [False] * 3

        with Session(cluster.nodes[2].endpoint, "source") as session:
            session.call("ACL", "SETUSER", OURS, "-client|pause")
        with pytest.raises(ServerError, match="refuses to pause writes: NOPERM"):
            pause.begin(20_000)
        assert paused() == [False] * 3

        with Session(cluster.nodes[2].endpoint, "source") as session:
            session.call("ACL", "SETUSER", OURS, "+@all")
        pause.begin(20_000)
        cluster.nodes[2].pause()
        try:
            assert not pause.still_on()
            with pytest.raises(ServerAway):
                pause.end()
        finally:
            cluster.nodes[2].resume()
        assert paused()[:2] == [False] * 2
        pause.end()
        assert paused() == [False] * 3
