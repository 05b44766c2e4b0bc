"""What all feeds do on their connection: take bytes, fence, and notice a server that has gone silent.

A feed is a ``Listener`` that knows how to attach itself and what names look like.
"""

from __future__ import annotations

import os
import select
import time
from typing import Protocol

from keyferry.capture.fences import Fences
from keyferry.capture.silence import SILENT, Silence
from keyferry.model.errors import ServerError
from keyferry.wire.channel import Channel
from keyferry.wire.resp import Argument, ProtocolError, Reply, ReplyError, encode_command
from keyferry.wire.session import ConnectionLost, Session

RECEIVE_BYTES_MAX = 1 << 20
"""At most so much is taken by one call, so that the loop stays responsive."""
PING_EVERY_S = 2.0
CONFIRM_S_MAX = 10.0
RETRY_S = 0.1

_PIECE_BYTES = 256 * 1024
_BUSY = ("BUSY", "LOADING")


class Cutting(Protocol):
    """What bytes are cut by: what the feed names stays in there, the rest comes out as replies."""

    def feed(self, data: bytes | bytearray | memoryview) -> None: ...
    def take_replies(self) -> list[Reply]: ...


class Listener:
    """One connection that listens.

    Args:
        session: Authenticated; its connection is ours afterwards.
        cutter: Takes all bytes that come.
    """

    def __init__(self, session: Session, cutter: Cutting) -> None:
        self.side = session.side
        self._where = str(session.endpoint)
        self._fences = Fences(os.urandom(8).hex().encode())
        self._cutter = cutter
        self._channel = Channel(session)
        self._view = memoryview(bytearray(_PIECE_BYTES))
        self._replies: list[Reply] = []
        self._silence = Silence()
        self._heard_s = time.monotonic()
        self._not_before_s = 0.0

    def fileno(self) -> int:
        return self._channel.fileno()

    @property
    def events(self) -> int:
        return select.POLLIN | self._channel.wants

    @property
    def buffered(self) -> bool:
        return self._channel.buffered

    def close(self) -> None:
        self._channel.close()

    def confirmed(self, *command: Argument, count: int = 1) -> list[Reply]:
        """Sends a command while the feed is being opened, and waits for its ``count`` replies.

        On this connection and not before on the session, which would keep what comes behind the reply.

        Raises:
            ConnectionLost: They did not come.
        """
        self._channel.queue(encode_command(*command))
        poll = select.poll()
        until_s = time.monotonic() + CONFIRM_S_MAX
        while len(self._replies) < count:
            self._channel.flush()
            poll.register(self.fileno(), self.events)
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise self._lost("no reply came in time")
            if self.buffered or poll.poll(left_s * 1000):
                self._take_bytes()
        replies, self._replies = self._replies[:count], self._replies[count:]
        return replies

    def fence(self) -> int:
        return self._fences.begin()

    def passed(self, fence: int) -> bool:
        return self._fences.passed(fence)

    def take_in(self, now_s: float) -> None:
        """Takes bytes, at most ``RECEIVE_BYTES_MAX``: names into the cutter, PONGs into the fences.

        Raises:
            ConnectionLost: A gap.
            ProtocolError: The peer sent what no feed sends.
            ServerError: It refuses us.
        """
        if self._take_bytes():
            self._heard_s = now_s
            self._silence.end()
        if self._replies:
            replies, self._replies = self._replies, []
            for reply in replies:
                self._take(reply, now_s)
            self._ping(now_s)
            self._channel.flush()

    def turn(self, now_s: float) -> None:
        """Sends what waits, and asks whether the server is there.

        Raises:
            ConnectionLost: It broke, or it has been silent for ``SILENCE_S_MAX``.
        """
        if self._silence.too_long(now_s, self._fences.waiting):
            raise self._lost(SILENT)
        self._ping(now_s)
        self._channel.flush()

    def _take_bytes(self) -> int:
        """Takes what is there; the number of bytes."""
        total = 0
        while total < RECEIVE_BYTES_MAX:
            count = self._channel.receive(self._view)
            if not count:
                break
            self._cutter.feed(self._view[:count])
            total += count
        self._replies += self._cutter.take_replies()
        return total

    def _take(self, reply: Reply, now_s: float) -> None:
        if isinstance(reply, list) and len(reply) == 2 and reply[0] == b"pong":
            reply = reply[1]  # the form of RESP2 on a connection that is subscribed
        if isinstance(reply, bytes) and self._fences.pong(reply):
            return
        if isinstance(reply, ReplyError) and self._fences.waiting:
            if reply.code not in _BUSY:
                raise ServerError(
                    self.side,
                    f"The {self.side} {self._where} answers PING with: {reply.message.rstrip('.')}.",
                )
            # While a script runs for too long nothing but its end is allowed.
            self._fences.refused()
            self._not_before_s = now_s + RETRY_S
            return
        raise ProtocolError(f"The {self.side} {self._where} sent a reply that nothing asked for.")

    def _ping(self, now_s: float) -> None:
        if now_s < self._not_before_s:
            return
        text = self._fences.ping(idle=now_s >= self._heard_s + PING_EVERY_S)
        if text is not None:
            self._channel.queue(encode_command("PING", text))

    def _lost(self, reason: str) -> ConnectionLost:
        return ConnectionLost(
            self.side, f"The connection to the {self.side} {self._where} is lost: {reason}."
        )
