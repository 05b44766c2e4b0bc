"""Servers and clusters for tests: real ones, started once per program and emptied between tests.

- ``flushed(name)``: a running, empty server, shared by the session; a second one of the same program with
  ``flushed(name, 1)``.
- ``start_server(name, **config)``: one of its own with a configuration of its own, stopped after the test.
- A test that takes ``server`` runs once per server; one that takes ``server_pair`` once per ordered pair.
- ``cluster(name, shards)`` and ``start_cluster(name, shards, replicas, **config)`` are the same for clusters. A
  test may move the slots of a shared one; one that kills or adds nodes takes its own.
- A test that takes ``deployment_pair`` runs once for each of ``deployment_pairs``, the ways in which a server
  and a cluster can be source and target; one that takes ``every_deployment_pair`` for all makes, three times as
  often.

A cluster takes two seconds to start, a shared one once per program, shards and worker. A server that is expected but not at hand skips its tests, by name.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from keyferry.model.identity import Family
from keyferry.testing.binaries import ServerBinary, find_binaries, server_names, server_pairs
from keyferry.testing.cluster import Cluster
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job begins so, and would hand it on to every command that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Wanted(NamedTuple):
    """A server (no shards) or a cluster of the session."""

    name: str
    shards: int = 0
    instance: int = 0

    def __str__(self) -> str:
        return f"{self.name}x{self.shards}" if self.shards else self.name


def every_deployment_pair() -> list[tuple[Wanted, Wanted]]:
    """Server to cluster, cluster to server, cluster to cluster, for every ordered pair of makes; between clusters
    of one make the slots are cut elsewhere."""
    return [
        pair
        for source, target in server_pairs()
        for pair in (
            (Wanted(source), Wanted(target, 3)),
            (Wanted(source, 3), Wanted(target)),
            (Wanted(source, 3), Wanted(target, 2 if source == target else 3)),
        )
    ]


def deployment_pairs() -> list[tuple[Wanted, Wanted]]:
    """Of these the pairs of one make, and cluster to cluster from each make to the next one."""
    names = server_names()
    following = dict(zip(names, names[1:] + names[:1], strict=True))
    return [
        (source, target)
        for source, target in every_deployment_pair()
        if source.name == target.name
        or (source.shards and target.shards and target.name == following[source.name])
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", server_names(), indirect=True)
    if "server_pair" in metafunc.fixturenames:
        metafunc.parametrize("server_pair", server_pairs(), indirect=True, ids="->".join)
    for fixture, choose in (
        ("deployment_pair", deployment_pairs),
        ("every_deployment_pair", every_deployment_pair),
    ):
        if fixture in metafunc.fixturenames:
            pairs = choose()
            ids = [f"{source}->{target}" for source, target in pairs]
            metafunc.parametrize(fixture, pairs, indirect=True, ids=ids)


class _Pool:
    """Running servers and clusters by name, shards and instance."""

    def __init__(self, binaries: dict[str, ServerBinary]) -> None:
        self._binaries = binaries
        self._servers: dict[tuple[str, int], Server] = {}
        self._clusters: dict[Wanted, Cluster] = {}
        self._stack = contextlib.ExitStack()

    def flushed(self, name: str, instance: int = 0) -> Server:
        server = self._servers.get((name, instance))
        if server is None:
            server = self._stack.enter_context(Server(_binary(self._binaries, name)))
            self._servers[name, instance] = server
        # The counters, too: what earlier tests have called is nothing to warn of.
        commands: list[tuple[str, ...]] = [("FLUSHALL",), ("CONFIG", "RESETSTAT")]
        if server.binary.family is Family.VALKEY or server.binary.version >= (7, 0, 0):
            commands.append(("FUNCTION", "FLUSH"))
        with server.session() as session:
            assert session.pipeline([*commands]) == [b"OK"] * len(commands)
        return server

    def cluster(self, name: str, shards: int = 3, instance: int = 0) -> Cluster:
        wanted = Wanted(name, shards, instance)
        cluster = self._clusters.get(wanted)
        if cluster is None:
            cluster = self._stack.enter_context(Cluster(_binary(self._binaries, name), shards))
            self._clusters[wanted] = cluster
        cluster.reset()
        return cluster

    def deployments(self, *wanted: Wanted) -> list[Deployment]:
        """All at once: clusters that have not been started yet take their time beside each other."""
        for one in wanted:
            _binary(self._binaries, one.name)
        with ThreadPoolExecutor(len(wanted)) as threads:
            return list(threads.map(self._deployment, wanted))

    def _deployment(self, wanted: Wanted) -> Deployment:
        if wanted.shards:
            return self.cluster(*wanted)
        return self.flushed(wanted.name, wanted.instance)

    def stop(self) -> None:
        self._stack.close()


def _binary(binaries: dict[str, ServerBinary], name: str) -> ServerBinary:
    if name not in binaries:
        pytest.skip(f"{name} is not at hand")
    return binaries[name]


@pytest.fixture(scope="session")
def binaries() -> dict[str, ServerBinary]:
    return find_binaries()


@pytest.fixture(scope="session")
def _pool(binaries: dict[str, ServerBinary]) -> Iterator[_Pool]:
    pool = _Pool(binaries)
    yield pool
    pool.stop()


@pytest.fixture
def flushed(_pool: _Pool) -> Callable[..., Server]:
    """``flushed(name, instance=0)``: a running, empty server of the session."""
    return _pool.flushed


@pytest.fixture
def start_server(binaries: dict[str, ServerBinary]) -> Iterator[Callable[..., Server]]:
    """``start_server(name, maxmemory="10mb", maxmemory_policy="allkeys-lru")``: one of the test's own."""
    with contextlib.ExitStack() as stack:

        def start(name: str, **config: str) -> Server:
            directives = {key.replace("_", "-"): value for key, value in config.items()}
            return stack.enter_context(Server(_binary(binaries, name), config=directives))

        yield start


@pytest.fixture
def server(request: pytest.FixtureRequest, _pool: _Pool) -> Server:
    """Each server in turn, running and empty."""
    return _pool.flushed(request.param)


@pytest.fixture
def server_pair(request: pytest.FixtureRequest, _pool: _Pool) -> tuple[Server, Server]:
    """Each ordered (source, target) in turn, both running and empty, never the same process."""
    source, target = request.param
    return _pool.flushed(source), _pool.flushed(target, int(source == target))


@pytest.fixture
def cluster(_pool: _Pool) -> Callable[..., Cluster]:
    """``cluster(name, shards=3, instance=0)``: a running, empty cluster of the session, its slots evenly cut."""
    return _pool.cluster


@pytest.fixture
def start_cluster(binaries: dict[str, ServerBinary]) -> Iterator[Callable[..., Cluster]]:
    """``start_cluster(name, shards=3, replicas=0, cluster_node_timeout="500")``: one of the test's own."""
    with contextlib.ExitStack() as stack:

        def start(name: str, shards: int = 3, replicas: int = 0, **config: str) -> Cluster:
            directives = {key.replace("_", "-"): value for key, value in config.items()}
            cluster = Cluster(_binary(binaries, name), shards, replicas=replicas, config=directives)
            return stack.enter_context(cluster)

        yield start


@pytest.fixture
def deployment_pair(request: pytest.FixtureRequest, _pool: _Pool) -> tuple[Deployment, Deployment]:
    """Each (source, target) of ``deployment_pairs`` in turn, both running and empty."""
    source, target = _pool.deployments(*request.param)
    return source, target


@pytest.fixture(name="every_deployment_pair")
def _every_deployment_pair(request: pytest.FixtureRequest, _pool: _Pool) -> tuple[Deployment, Deployment]:
    """The same of ``every_deployment_pair``."""
    source, target = _pool.deployments(*request.param)
    return source, target
