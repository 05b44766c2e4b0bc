"""Servers for tests: real ones, started once per program and emptied between tests.

- ``flushed(name)``: a running, empty server, shared by the session; a second one of the same program with
  ``flushed(name, 1)``.
- ``start_server(name, **config)``: one of its own with a configuration of its own, stopped after the test.
- A test that takes ``server`` runs once per server; one that takes ``server_pair`` once per ordered pair.

A server that is expected but not at hand skips its tests, by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from keyferry.model.identity import Family
from keyferry.testing.binaries import ServerBinary, find_binaries, server_names, server_pairs
from keyferry.testing.servers import Server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", server_names(), indirect=True)
    if "server_pair" in metafunc.fixturenames:
        metafunc.parametrize("server_pair", server_pairs(), indirect=True, ids="->".join)


class _Pool:
    """Running servers by (name, instance)."""

    def __init__(self, binaries: dict[str, ServerBinary]) -> None:
        self._binaries = binaries
        self._servers: dict[tuple[str, int], Server] = {}
        self._stack = contextlib.ExitStack()

    def flushed(self, name: str, instance: int = 0) -> Server:
        server = self._servers.get((name, instance))
        if server is None:
            server = self._stack.enter_context(Server(_binary(self._binaries, name)))
            self._servers[name, instance] = server
        commands: list[tuple[str, ...]] = [("FLUSHALL",)]
        if server.binary.family is Family.VALKEY or server.binary.version >= (7, 0, 0):
            commands.append(("FUNCTION", "FLUSH"))
        with server.session() as session:
            assert session.pipeline([*commands]) == [b"OK"] * len(commands)
        return server

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
