"""Read-only by following an address where nothing listens: the data stays, reads go on, writes are refused."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from plain_application import Blocked, reaching

from keyferry.cutover.dead_replica import (
    is_read_only,
    obstacle_to_read_only,
    read_only_by_dead_replica,
    writable_again,
)
from keyferry.model.errors import RefusedError
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server
from keyferry.wire.resp import ReplyError

KEYS = 1000
StartServer = Callable[..., Server]


@pytest.fixture
def own(start_server: StartServer, server: Server) -> Server:
    return start_server(server.binary.name)


def test_its_data_stays_and_nobody_writes(own: Server) -> None:
    with reaching(own.endpoint) as reach, own.session() as session:
        session.pipeline([("SET", f"k{i}", i) for i in range(KEYS)])
        queued = own.session()
        queued.pipeline([("MULTI",), ("SET", "queued", 1)])
        blocked = Blocked(own.endpoint, "BLPOP", "q", 0)
        blocked.start()
        assert obstacle_to_read_only(reach) == "" and not is_read_only(reach)
        read_only_by_dead_replica(reach)
        assert is_read_only(reach)
        refused = session.call("SET", "k1", "x")
        assert isinstance(refused, ReplyError) and refused.code == "READONLY"
        assert isinstance(queued.call("EXEC"), ReplyError)
        queued.close()
        blocked.join(10)
        assert isinstance(blocked.ended, ReplyError)
        time.sleep(1.2)  # it tries its primary once a second
        assert session.call("GET", "k1") == b"1" and session.call("DBSIZE") == KEYS
        assert writable_again(reach) and not is_read_only(reach) and not writable_again(reach)
        assert session.call("SET", "k1", "x") == b"OK"


def test_a_replica_that_would_take_writes(own: Server) -> None:
    with reaching(own.endpoint) as reach, own.session() as session:
        session.call("CONFIG", "SET", "replica-read-only", "no")
        assert "replica-read-only is off" in obstacle_to_read_only(reach)
        with pytest.raises(RefusedError, match="replica-read-only"):
            read_only_by_dead_replica(reach)
        session.pipeline([("CONFIG", "SET", "replica-read-only", "yes")])
        session.pipeline([("CONFIG", "SET", "replica-serve-stale-data", "no")])
        assert "would refuse reads too" in obstacle_to_read_only(reach)
        assert not is_read_only(reach)


def test_a_server_that_does_not_let_us(start_server: StartServer) -> None:
    own = start_server("redis-7.0", **{"rename-command REPLICAOF": '""'})
    with reaching(own.endpoint) as reach:
        assert "does not let us make it read-only (REPLICAOF): ERR unknown command" in obstacle_to_read_only(
            reach
        )


def test_another_primary_is_left_alone(start_server: StartServer) -> None:
    primary, replica = start_server("redis-7.0"), start_server("redis-7.0")
    with reaching(replica.endpoint) as reach, replica.session() as session:
        session.call("REPLICAOF", "127.0.0.1", primary.port)
        assert not writable_again(reach)
        info = session.call("INFO", "replication")
        assert isinstance(info, bytes) and b"role:slave" in info


def test_not_the_nodes_of_a_cluster(cluster: Callable[..., Cluster]) -> None:
    with reaching(cluster("valkey-9.1", 3).nodes[0].endpoint) as reach:
        assert "is a cluster" in obstacle_to_read_only(reach)
        with pytest.raises(RefusedError, match="is a cluster"):
            read_only_by_dead_replica(reach)
        assert not writable_again(reach)
