"""The servers' own limits: requests made in advance are sent, replies are counted and thrown away.

What remains of the client is two system calls per tens of kilobytes, so the server is the only bottleneck.
Replies are recognised by their number of bytes, which recording (``prepare``) found out, and the end by the
echo of a marker; no reply is parsed.
"""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass

from bench.samples import BenchError
from keyferry.wire.resp import encode_command
from keyferry.wire.session import Session

MARKER = b"keyferry-bench-end-of-stream"
WINDOW_SEGMENTS = 40
RECEIVE_BYTES = 1 << 16
STALL_MS = 30_000
TTL_SHARE_MAX = 0.01
"""How far the reply bytes may be off where they hold PTTLs, whose digits change with time."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Requests that are sent together, and the bytes of their replies."""

    requests: bytes
    reply_bytes: int


@dataclass(frozen=True, slots=True)
class Stream:
    """``exact`` is False where the number of reply bytes may drift a little."""

    segments: list[Segment]
    keys: int
    exact: bool

    @property
    def reply_bytes(self) -> int:
        return sum(segment.reply_bytes for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Replayed:
    seconds: float
    cpu_s: float


def replay(session: Session, stream: Stream) -> Replayed:
    """Sends the stream with ``WINDOW_SEGMENTS`` segments in flight; takes the session's connection over.

    Raises:
        BenchError: The server stalled, closed the connection, or replied with another number of bytes.
    """
    connection = session.detach()
    connection.setblocking(False)
    cpu_begun, begun = time.process_time(), time.perf_counter()
    try:
        received = _pump(connection, stream)
    except OSError as error:
        raise BenchError(f"the connection broke: {error.strerror or error}") from None
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_begun
    allowed = 0 if stream.exact else stream.reply_bytes * TTL_SHARE_MAX
    if abs(received - stream.reply_bytes) > allowed:
        raise BenchError(f"{received} reply bytes came where {stream.reply_bytes} were recorded")
    return Replayed(seconds, cpu_s)


def _pump(connection: socket.socket, stream: Stream) -> int:
    """Sends and receives until the marker comes back; returns the reply bytes before it."""
    segments = [*stream.segments, Segment(encode_command("ECHO", MARKER), 0)]
    ending = b"$%d\r\n%b\r\n" % (len(MARKER), MARKER)
    poller, descriptor = select.poll(), connection.fileno()
    poller.register(descriptor, select.POLLIN | select.POLLOUT)
    buffer = bytearray(RECEIVE_BYTES)
    pending = memoryview(b"")
    sent = answered = received = answered_bytes = 0
    tail = b""
    while tail != ending:
        if not pending and sent < len(segments) and sent - answered < WINDOW_SEGMENTS:
            pending = memoryview(segments[sent].requests)
            sent += 1
        poller.modify(descriptor, select.POLLIN | (select.POLLOUT if pending else 0))
        ready = poller.poll(STALL_MS)
        if not ready:
            raise BenchError(f"no reply for {STALL_MS // 1000} s")
        events = ready[0][1]
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            count = connection.recv_into(buffer)
            if not count:
                raise BenchError("the server closed the connection")
            received += count
            tail = (tail + bytes(buffer[max(0, count - len(ending)) : count]))[-len(ending) :]
            while answered < sent and received >= answered_bytes + segments[answered].reply_bytes:
                answered_bytes += segments[answered].reply_bytes
                answered += 1
        if pending and events & select.POLLOUT:
            pending = pending[connection.send(pending) :]
    return received - len(ending)
