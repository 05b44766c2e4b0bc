"""The proxy's faults really happen, to the byte."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from keyferry.model.address import parse_endpoint
from keyferry.model.errors import ServerError
from keyferry.testing.binaries import ServerBinary
from keyferry.testing.proxy import HOST, FaultProxy
from keyferry.testing.servers import Server
from keyferry.wire.resp import encode_command
from keyferry.wire.session import ConnectionLost, Session

PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"
BIG = b"x" * 5_000_000


@pytest.fixture
def upstream(binaries: dict[str, ServerBinary], flushed: Callable[[str], Server]) -> Server:
    return flushed(next(iter(binaries)))


@pytest.fixture
def proxy(upstream: Server) -> Iterator[FaultProxy]:
    with FaultProxy(HOST, upstream.port) as proxy:
        yield proxy


@pytest.fixture
def dial(proxy: FaultProxy) -> Iterator[Callable[[], socket.socket]]:
    opened: list[socket.socket] = []

    def open_one() -> socket.socket:
        connection = socket.create_connection((HOST, proxy.port), timeout=10)
        opened.append(connection)
        return connection

    yield open_one
    for connection in opened:
        connection.close()


def _session(proxy: FaultProxy, timeout_s: float = 10.0) -> Session:
    return Session(parse_endpoint(proxy.url), "source", timeout_s=timeout_s)


def _read_all(connection: socket.socket) -> bytes:
    parts: list[bytes] = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def _wait_for_count(proxy: FaultProxy, count: int) -> None:
    """Bytes are counted after they are sent: the client may have them a moment before."""
    deadline = time.monotonic() + 5
    while proxy.bytes_to_client < count and time.monotonic() < deadline:
        time.sleep(0.005)


def test_bytes_pass_both_ways_and_are_counted(proxy: FaultProxy, dial: Callable[[], socket.socket]) -> None:
    connection = dial()
    connection.sendall(PING)
    assert connection.recv(64) == PONG
    _wait_for_count(proxy, len(PONG))
    assert (proxy.bytes_to_server, proxy.bytes_to_client) == (len(PING), len(PONG))
    assert (proxy.connections, proxy.open_connections) == (1, 1)


def test_large_values_arrive_whole(proxy: FaultProxy, upstream: Server) -> None:
    with _session(proxy) as session:
        assert session.call("SET", "big", BIG) == b"OK"
        assert session.call("GET", "big") == BIG
    _wait_for_count(proxy, len(BIG) + 1)
    assert proxy.bytes_to_client > len(BIG)


def test_cut_resets_what_is_open_and_lets_new_ones_through(
    proxy: FaultProxy, dial: Callable[[], socket.socket]
) -> None:
    connection = dial()
    connection.sendall(PING)
    assert connection.recv(64) == PONG
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        connection.recv(64)
    assert proxy.open_connections == 0
    with _session(proxy) as session:
        assert session.call("PING") == b"PONG"


@pytest.mark.parametrize("count", [1, 1000, 1_234_567])
def test_a_reply_is_cut_after_exactly_so_many_bytes(
    proxy: FaultProxy, upstream: Server, dial: Callable[[], socket.socket], count: int
) -> None:
    with upstream.session() as session:
        session.call("SET", "big", BIG)
    proxy.cut_after(count, "to_client")
    connection = dial()
    connection.sendall(encode_command("GET", "big"))
    assert len(_read_all(connection)) == count
    with _session(proxy) as session:  # once only
        assert session.call("GET", "big") == BIG


def test_a_request_is_cut_after_exactly_so_many_bytes(
    proxy: FaultProxy, upstream: Server, dial: Callable[[], socket.socket]
) -> None:
    first, second = encode_command("SET", "first", "1"), encode_command("SET", "second", "2")
    proxy.cut_after(len(first) + len(second) - 1, "to_server")
    connection = dial()
    connection.sendall(first + second)
    with pytest.raises(ConnectionResetError):
        while connection.recv(64):
            pass
    with upstream.session() as session:
        assert session.pipeline([("EXISTS", "first"), ("EXISTS", "second")]) == [1, 0]


def test_several_connections_in_a_row_are_cut(proxy: FaultProxy, dial: Callable[[], socket.socket]) -> None:
    proxy.cut_after(3, "to_client", times=2)
    received: list[bytes] = []
    for _ in range(3):
        connection = dial()
        connection.sendall(PING)
        connection.shutdown(socket.SHUT_WR)
        received.append(_read_all(connection))
    assert received == [PONG[:3], PONG[:3], PONG]


def test_refused_connections_fail_and_open_ones_stay(proxy: FaultProxy) -> None:
    with _session(proxy) as session:
        proxy.refuse(True)
        with pytest.raises(ServerError):
            _session(proxy)
        assert session.call("PING") == b"PONG"
        proxy.refuse(False)
        _session(proxy).close()


def test_a_stall_holds_everything_until_it_ends(proxy: FaultProxy, dial: Callable[[], socket.socket]) -> None:
    connection = dial()
    proxy.stall(True)
    connection.sendall(PING)
    late = dial()
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(64)
    proxy.stall(False)
    assert connection.recv(64) == PONG
    late.sendall(PING)
    assert late.recv(64) == PONG


def test_delay_adds_to_each_way(proxy: FaultProxy) -> None:
    with _session(proxy) as session:
        proxy.delay(0.1)
        begin = time.monotonic()
        assert session.pipeline([("PING",)] * 100) == [b"PONG"] * 100
        assert 0.2 <= time.monotonic() - begin < 5
        proxy.delay(0)
        assert session.call("PING") == b"PONG"


def test_a_dead_server_resets_its_clients(
    start_server: Callable[..., Server], binaries: dict[str, ServerBinary]
) -> None:
    server = start_server(next(iter(binaries)))
    with FaultProxy(HOST, server.port) as proxy:
        with _session(proxy) as session:
            server.kill()
            with pytest.raises(ConnectionLost):
                session.call("PING")
        with pytest.raises(ServerError):
            _session(proxy)
