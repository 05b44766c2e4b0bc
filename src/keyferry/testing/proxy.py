"""A TCP proxy that misbehaves on demand: cuts, refuses, stalls, delays, and counts.

One thread owns all sockets and moves the bytes; every fault is carried out there, between two reads, so that
no fault races with the traffic that it is meant to hit. With a TLS context it ends TLS for its clients.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Literal

from keyferry.model.errors import KeyferryError

Direction = Literal["to_client", "to_server"]

HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024
QUEUE_BYTES_MAX = 1024 * 1024
"""Per direction and connection; when it is full the proxy stops reading, as a slow network would."""
CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 10.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultProxy:
    """Forwards connections from a free port on 127.0.0.1 to a server, until told otherwise.

    Args:
        upstream_host: Where the server listens.
        upstream_port: Its TCP port.
        tls: What clients have to speak with the proxy; None is plain TCP.
    """

    def __init__(self, upstream_host: str, upstream_port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._upstream = (upstream_host, upstream_port)
        self._tls = tls
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self._listener.setblocking(False)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._links: list[_Link] = []
        self._cuts_ahead: deque[tuple[int, Direction]] = deque()
        self._commands: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._refuses = self._stalls = self._ends = False
        self._delay_s = 0.0
        self._moved = {"to_client": 0, "to_server": 0}
        self._connections = 0
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._end)
        self._thread.join()
        self._selector.close()
        for owned in (self._listener, self._wake_reader, self._wake_writer):
            owned.close()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """How many were accepted so far, refused ones not counted."""
        return self._connections

    @property
    def open_connections(self) -> int:
        return len(self._links)

    @property
    def bytes_to_client(self) -> int:
        return self._moved["to_client"]

    @property
    def bytes_to_server(self) -> int:
        return self._moved["to_server"]

    def cut(self) -> None:
        """Resets all connections, both ends of each; new ones are let through."""
        self._do(self._cut_all)

    def cut_after(self, count: int, direction: Direction, *, times: int = 1) -> None:
        """Ends each of the next ``times`` connections when exactly ``count`` bytes have passed that way.

        The receiver gets all of the ``count`` bytes and then the end of the stream; the other end is reset.
        """
        self._do(lambda: self._cuts_ahead.extend([(count, direction)] * times))

    def refuse(self, on: bool) -> None:
        """New connections are reset at once; those that are open stay."""
        self._do(lambda: setattr(self, "_refuses", on))

    def stall(self, on: bool) -> None:
        """All connections stay open, new ones are accepted, and no byte passes; then all that waited does."""
        self._do(lambda: setattr(self, "_stalls", on))

    def delay(self, seconds: float) -> None:
        """Each byte that arrives from now on takes so long each way; the throughput stays."""
        self._do(lambda: setattr(self, "_delay_s", seconds))

    def _do(self, command: Callable[[], None]) -> None:
        """Has the proxy's thread do it and waits until it is done."""
        done = threading.Event()
        self._commands.append((command, done))
        self._wake_writer.send(b"!")
        if not done.wait(COMMAND_TIMEOUT_S):
            raise KeyferryError("The fault proxy's thread does not answer.")

    def _run(self) -> None:
        while not self._ends:
            for key, events in self._selector.select(self._wait_s()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wake_reader:
                    self._wake_reader.recv(64)
                elif key.data in self._links:
                    self._move(key.data, key.fileobj, events)
            while self._commands:
                command, done = self._commands.popleft()
                command()
                done.set()
            for link in self._links:
                self._watch(link)

    def _wait_s(self) -> float | None:
        """Until the next delayed byte is due; None when there is none."""
        if self._stalls:
            return None
        due = [way.queue[0][0] for link in self._links for way in link.ways if way.queue]
        late = [at for at in due if at > time.monotonic()]
        return max(0.0, min(late) - time.monotonic()) if late else None

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            if self._refuses:
                _close(client, reset=True)
                return
            try:
                server = socket.create_connection(self._upstream, timeout=CONNECT_TIMEOUT_S)
            except OSError:
                _close(client, reset=True)
                return
            link = _Link(client, server, self._tls)
            if self._cuts_ahead:
                count, direction = self._cuts_ahead.popleft()
                (link.to_client if direction == "to_client" else link.to_server).cut_at = count
            self._links.append(link)
            self._connections += 1

    def _watch(self, link: _Link) -> None:
        now = time.monotonic()
        for end, way_in, way_out in (
            (link.client, link.to_server, link.to_client),
            (link.server, link.to_client, link.to_server),
        ):
            wanted = 0
            if not self._stalls:
                if not way_in.ended and way_in.bytes_queued < QUEUE_BYTES_MAX:
                    wanted |= selectors.EVENT_READ
                if way_out.queue and way_out.queue[0][0] <= now:
                    wanted |= selectors.EVENT_WRITE
            _set_interest(self._selector, end, wanted, link)

    def _move(self, link: _Link, end: object, events: int) -> None:
        from_client = end is link.client
        try:
            if events & selectors.EVENT_READ:
                link.read(from_client, time.monotonic() + self._delay_s)
            if events & selectors.EVENT_WRITE:
                way = link.to_client if from_client else link.to_server
                self._moved["to_client" if from_client else "to_server"] += way.write()
                if way.passed == way.cut_at:
                    self._drop(link, resets=(link.server if from_client else link.client,))
                    return
        except OSError as error:
            # A refused handshake tells the client why before it ends.
            if isinstance(error, ssl.SSLError):
                link.send_alert()
            self._drop(link, resets=() if isinstance(error, ssl.SSLError) else link.ends)
            return
        link.pass_on_ends()
        if all(way.ended and not way.queue for way in link.ways):
            self._drop(link)

    def _drop(self, link: _Link, *, resets: tuple[socket.socket, ...] = ()) -> None:
        """Closes both ends, those in ``resets`` with a reset."""
        self._links.remove(link)
        for end in link.ends:
            _set_interest(self._selector, end, 0, link)
            _close(end, reset=end in resets)

    def _cut_all(self) -> None:
        for link in list(self._links):
            self._drop(link, resets=link.ends)

    def _end(self) -> None:
        self._cut_all()
        self._ends = True


class _Way:
    """Bytes on their way to one end: what waits, when each piece is due, and how much has passed."""

    def __init__(self, receiver: socket.socket) -> None:
        self.receiver = receiver
        self.queue: deque[tuple[float, memoryview]] = deque()
        self.bytes_queued = 0
        self.passed = 0
        self.cut_at: int | None = None
        self.ended = False
        self.end_passed_on = False

    def put(self, data: bytes, due: float) -> None:
        if data:
            self.queue.append((due, memoryview(data)))
            self.bytes_queued += len(data)

    def write(self) -> int:
        """Sends what is due, never beyond ``cut_at``; how many bytes went."""
        sent_before = self.passed
        now = time.monotonic()
        while self.queue and self.queue[0][0] <= now and self.passed != self.cut_at:
            due, data = self.queue[0]
            allowed = len(data) if self.cut_at is None else min(len(data), self.cut_at - self.passed)
            try:
                sent = self.receiver.send(data[:allowed])
            except BlockingIOError:
                break
            self.passed += sent
            self.bytes_queued -= sent
            self.queue.popleft()
            if sent < len(data):
                self.queue.appendleft((due, data[sent:]))
        return self.passed - sent_before


class _Link:
    """One client's connection and ours to the server."""

    def __init__(self, client: socket.socket, server: socket.socket, tls: ssl.SSLContext | None) -> None:
        self.client, self.server = client, server
        self.ends = (client, server)
        for end in self.ends:
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.to_client, self.to_server = _Way(client), _Way(server)
        self.ways = (self.to_client, self.to_server)
        self._tls_in, self._tls_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._tls_in, self._tls_out, server_side=True) if tls else None
        self._before_handshake: list[bytes] = []
        self._shaken = False

    def read(self, from_client: bool, due: float) -> None:
        """Takes what has arrived at one end and queues it for the other."""
        sender = self.client if from_client else self.server
        way = self.to_server if from_client else self.to_client
        try:
            data = sender.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        way.ended = not data
        if self._tls is None:
            way.put(data, due)
        elif from_client:
            self._tls_in.write(data)
            self.to_server.put(self._decrypted(self._tls), due)
            self.to_client.put(self._tls_out.read(), due)
        elif self._shaken:
            if data:
                self._tls.write(data)
            self.to_client.put(self._tls_out.read(), due)
        else:
            self._before_handshake.append(data)

    def _decrypted(self, tls: ssl.SSLObject) -> bytes:
        parts: list[bytes] = []
        try:
            if not self._shaken:
                tls.do_handshake()
                self._shaken = True
                for data in self._before_handshake:
                    tls.write(data)
            while part := tls.read(CHUNK_BYTES):
                parts.append(part)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return b"".join(parts)

    def send_alert(self) -> None:
        with contextlib.suppress(OSError):
            self.client.send(self._tls_out.read())

    def pass_on_ends(self) -> None:
        for way in self.ways:
            if way.ended and not way.queue and not way.end_passed_on:
                way.end_passed_on = True
                with contextlib.suppress(OSError):
                    way.receiver.shutdown(socket.SHUT_WR)


def _set_interest(selector: selectors.BaseSelector, end: socket.socket, wanted: int, link: _Link) -> None:
    key = selector.get_map().get(end)
    if key is None:
        if wanted:
            selector.register(end, wanted, link)
    elif not wanted:
        selector.unregister(end)
    elif key.events != wanted:
        selector.modify(end, wanted, link)


def _close(end: socket.socket, *, reset: bool) -> None:
    with contextlib.suppress(OSError):
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        else:
            # Bytes that nobody has read turn a close into a reset, which may overtake what we sent.
            while end.recv(CHUNK_BYTES):
                pass
    end.close()
