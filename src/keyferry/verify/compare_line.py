"""One connection of a comparison: what was asked of it, in order, and the answers as they come.

Answers are cut by their number, not read: whoever asked gets the bytes of all of them in one piece.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable

from keyferry.copy.carriers import KEEP_ALIVE_S
from keyferry.copy.pipeline import POLL_MS, SILENCE_S_MAX
from keyferry.copy.poller import Poller
from keyferry.model.errors import Side
from keyferry.transfer.comparing import walked
from keyferry.wire.channel import Channel
from keyferry.wire.resp import ProtocolError, Reply, ReplyParser, encode_command
from keyferry.wire.session import ConnectionLost

_PING = encode_command("PING")

Then = Callable[[bytes], None]


class _Run:
    """Answers that belong together."""

    __slots__ = ("left", "then")

    def __init__(self, replies: int, then: Then) -> None:
        self.left = replies
        self.then = then


class Line:
    """Args: view: Into which bytes are received; lines of one thread may share it."""

    def __init__(self, channel: Channel, poller: Poller, view: memoryview, *, cluster: bool) -> None:
        self._channel, self._poller, self._view = channel, poller, view
        self._runs: deque[_Run] = deque()
        self._in = bytearray()
        self._walked = 0
        self._heard_s = 0.0
        """When it last sent or took something, or owed nothing; 0 before the first turn."""
        self._traffic_s = 0.0
        self.cluster = cluster
        """Whether a cluster's node answers, which may send us elsewhere."""

    @property
    def side(self) -> Side:
        return self._channel.side

    @property
    def backlog_bytes(self) -> int:
        """What the server has not taken yet."""
        return self._channel.out_bytes

    @property
    def buffered(self) -> bool:
        """TLS holds bytes that poll() does not know of."""
        return self._channel.buffered

    def concerns(self, ready: dict[int, int]) -> bool:
        return self._channel.fileno() in ready

    def ask(self, commands: bytes, replies: int, then: Then) -> None:
        """Queues commands; ``then`` gets the bytes of their ``replies`` answers."""
        self._channel.queue(commands)
        self._runs.append(_Run(replies, then))

    def receive(self, ready: dict[int, int], now_s: float) -> None:
        """Takes what came and hands over what is whole.

        Raises:
            ConnectionLost: It broke.
            ProtocolError: The peer does not speak RESP, or speaks unasked.
        """
        channel = self._channel
        # Below the low water mark poll() stays silent: what is there is read a little later.
        late = bool(self._runs) and now_s - self._heard_s > POLL_MS / 1000
        if not (late or channel.buffered or ready.get(channel.fileno(), 0) & ~select.POLLOUT):
            return
        count = channel.receive(self._view)
        if not count:
            return
        self._heard_s = self._traffic_s = now_s
        self._in += self._view[:count]
        runs = self._runs
        while runs:
            run = runs[0]
            self._walked, run.left = walked(self._in, self._walked, run.left)
            if run.left:
                return
            data = bytes(self._in[: self._walked])
            del self._in[: self._walked]
            self._walked = 0
            runs.popleft()
            run.then(data)
        if self._in:
            raise ProtocolError(f"The {self.side} sent a reply that nothing asked for.")

    def send(self, now_s: float) -> None:
        """Sends what the socket takes now. Raises ConnectionLost."""
        channel = self._channel
        before_bytes = channel.out_bytes
        if before_bytes:
            channel.flush()
            if channel.out_bytes < before_bytes:
                self._heard_s = max(self._heard_s, now_s)

    def listen(self, wake_bytes: int) -> None:
        """Says what to be woken for; ``wake_bytes``: not for fewer."""
        self._channel.wake_at(wake_bytes)
        self._poller.watch(self._channel.fileno(), self._channel.wants | select.POLLIN)

    def check_silence(self, now_s: float) -> None:
        """Raises ConnectionLost when answers are owed for too long. A connection that is still is kept alive."""
        if not self._runs or not self._heard_s:
            self._heard_s = now_s
        if not self._traffic_s:
            self._traffic_s = now_s
        if now_s - self._heard_s > SILENCE_S_MAX:
            raise ConnectionLost(self.side, f"The {self.side} has not answered for {SILENCE_S_MAX:g} s.")
        if not self._runs and now_s - self._traffic_s > KEEP_ALIVE_S:
            self._traffic_s = now_s
            self.ask(_PING, 1, lambda data: None)

    def close(self) -> None:
        self._poller.forget(self._channel.fileno())
        self._channel.close()


def replies_of(data: bytes) -> list[Reply]:
    """Complete replies, errors as values."""
    parser = ReplyParser()
    parser.feed(data)
    return parser.replies()
